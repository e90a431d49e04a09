"""Every command and flag through libnbd, a client that checks what the server says."""

import errno

import nbd
import pytest

from support import images


@pytest.fixture(params=["unix", "tcp"])
def server(request, serve, image):
    return serve(f"disk={image}", listen=request.param)


def connect(server, structured=True, contexts=()):
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    for context in contexts:
        handle.add_meta_context(context)
    handle.connect_uri(server.uri("disk"))
    return handle


@pytest.fixture(params=[True, False])
def handle(request, server):
    connected = connect(server, structured=request.param)
    yield connected
    connected.shutdown()


def error_of(call, *arguments, **more):
    with pytest.raises(nbd.Error) as caught:
        call(*arguments, **more)
    return caught.value.errnum


def test_the_handshake_is_as_libnbd_expects(server):
    handle = connect(server, contexts=["base:allocation"])
    assert handle.get_protocol() == "newstyle-fixed"
    assert handle.get_structured_replies_negotiated()
    assert handle.can_meta_context("base:allocation")
    assert handle.get_size() == 4 << 20
    assert handle.get_block_size(nbd.SIZE_MAXIMUM) >= 32 << 20
    handle.shutdown()


def test_reads_writes_flush_and_fua(handle, image):
    expected = bytearray(image.read_bytes())
    for offset, length, flags in ((0, 512, 0), (4095, 2, nbd.CMD_FLAG_FUA), (100001, 99999, 0)):
        data = images.random_bytes(length, seed=offset)
        handle.pwrite(data, offset, flags)
        expected[offset : offset + length] = data
    handle.flush()
    assert handle.pread(4 << 20, 0) == expected
    assert image.read_bytes() == expected


def test_trim_zero_and_cache(handle):
    handle.pwrite(b"x" * 300000, 1000)
    handle.trim(65536, 65536)
    handle.zero(1000, 3000)
    handle.zero(65536, 1 << 20, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
    handle.cache(1 << 20, 0)
    assert handle.pread(1000, 3000) == bytes(1000)
    assert handle.pread(1000, 2000) == b"x" * 1000
    assert handle.pread(65536, 1 << 20) == bytes(65536)


def test_fast_zero_is_fast_or_not_supported(server):
    handle = connect(server)
    if handle.can_fast_zero():
        try:
            handle.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)
            assert handle.pread(65536, 0) == bytes(65536)
        except nbd.Error as error:
            assert error.errnum == errno.ENOTSUP
    handle.shutdown()


def test_errors_arrive_as_the_errno_of_the_specification(handle):
    handle.set_strict_mode(0)
    assert error_of(handle.pread, 512, 4 << 20) == errno.EINVAL
    assert error_of(handle.pwrite, b"x", 4 << 20) == errno.ENOSPC
    assert error_of(handle.zero, 512, (4 << 20) - 1) == errno.ENOSPC
    assert error_of(handle.trim, 512, (4 << 20) - 1) == errno.EINVAL
    assert error_of(handle.pread, 512, 0, nbd.CMD_FLAG_REQ_ONE) == errno.EINVAL
    assert len(handle.pread(512, 0)) == 512


def test_structured_reads_deliver_each_byte_once(server, image):
    handle = connect(server)
    seen = bytearray(4 << 20)

    def chunk(data, offset, status, error):
        assert error.value == 0
        assert not any(seen[offset : offset + len(data)])
        seen[offset : offset + len(data)] = b"\1" * len(data)

    data = handle.pread_structured(4 << 20, 0, chunk)
    assert data == image.read_bytes() and all(seen)
    handle.pread_structured(65536, 4096, lambda *_: None, nbd.CMD_FLAG_DF)
    handle.shutdown()


def test_block_status_covers_the_export(server):
    handle = connect(server, contexts=["base:allocation"])
    handle.zero(1 << 20, 1 << 20)
    extents = []

    def extent(context, offset, entries, error):
        assert context == "base:allocation" and error.value == 0
        extents.extend(zip(entries[::2], entries[1::2]))

    handle.block_status(4 << 20, 0, extent)
    assert sum(length for length, _ in extents) == 4 << 20
    handle.block_status(4096, 12345, extent, nbd.CMD_FLAG_REQ_ONE)
    assert extents[-1] == (4096, 0)
    handle.shutdown()


@pytest.mark.workers
def test_a_thousand_asynchronous_requests_are_answered(server, image):
    handle = connect(server)
    content = image.read_bytes()
    buffers = [nbd.Buffer(4096) for _ in range(1000)]
    cookies = set()
    for index, buffer in enumerate(buffers):
        cookies.add(handle.aio_pread(buffer, index * 4096 + index % 512))
    while handle.aio_in_flight():
        handle.poll(-1)
    assert all(handle.aio_command_completed(cookie) for cookie in cookies)
    for index, buffer in enumerate(buffers):
        assert buffer.to_bytearray() == content[index * 4096 + index % 512 :][:4096]
    handle.shutdown()


def test_options_can_be_haggled_one_by_one(server):
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_uri(server.uri())
    names = []
    assert handle.opt_list(lambda name, description: names.append(name)) == 1
    assert names == ["disk"]
    handle.set_export_name("missing")
    assert error_of(handle.opt_info) == errno.ENOENT
    handle.set_export_name("disk")
    handle.opt_info()
    assert handle.get_size() == 4 << 20
    contexts = []
    handle.opt_list_meta_context(contexts.append)
    assert contexts == ["base:allocation"]
    handle.opt_go()
    assert len(handle.pread(512, 0)) == 512
    handle.shutdown()


def test_abort_in_the_handshake_is_orderly(server):
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_uri(server.uri())
    handle.opt_abort()
    assert handle.aio_is_closed()
