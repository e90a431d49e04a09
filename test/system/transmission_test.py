"""The transmission phase, command by command, in all three framings; spec: "Request types"."""

import struct

import pytest

from support import images
from support.nbd_client import (
    CHUNK_DATA,
    CHUNK_ERROR,
    CHUNK_ERROR_OFFSET,
    CHUNK_HOLE,
    CMD_BLOCK_STATUS,
    CMD_CACHE,
    CMD_DISC,
    CMD_FLUSH,
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    DF,
    EINVAL,
    ENOSPC,
    ENOTSUP,
    EOVERFLOW,
    EPERM,
    FAST_ZERO,
    FLAG_SEND_FAST_ZERO,
    FUA,
    NO_HOLE,
    PAYLOAD_LEN,
    REQ_ONE,
    Disconnected,
    request_message,
)

SIZE = 4 * images.MIB

FRAMINGS = {"simple": {}, "structured": {"structured": True}, "extended": {"extended": True}}


@pytest.fixture(params=FRAMINGS)
def client(request, serve, image):
    with serve(image).client("", **FRAMINGS[request.param]) as connected:
        yield connected


@pytest.fixture(params=FRAMINGS)
def reader(request, serve, image):
    """A client of a read-only export."""
    with serve("--read-only", image).client("", **FRAMINGS[request.param]) as connected:
        yield connected


def assert_in_sync(client, image):
    assert client.read(1000, 100) == image.read_bytes()[1000:1100]


def test_a_wrong_request_magic_disconnects(serve, image):
    server = serve(image)
    for framing in FRAMINGS.values():
        with server.client("", **framing) as client:
            client.send(bytes(32))
            assert client.is_closed()


@pytest.mark.parametrize(
    "cookie", [0, 1, 0xFFFFFFFFFFFFFFFF, 0x8000000000000000, 0x0123456789ABCDEF]
)
def test_the_cookie_comes_back_as_it_was(client, cookie):
    client.request(CMD_READ, 0, 512, cookie=cookie)
    assert {chunk.cookie for chunk in client.reply()} == {cookie}


at_any_alignment = pytest.mark.parametrize(
    "offset, length",
    [
        (0, 1),
        (0, 512),
        (1, 1),
        (511, 2),
        (4095, 2),
        (SIZE - 1, 1),
        (SIZE - 513, 513),
        (12345, 54321),
        (0, SIZE),
    ],
)


@at_any_alignment
def test_read_returns_the_bytes_of_the_file_at_any_alignment(client, image, offset, length):
    assert client.read(offset, length) == image.read_bytes()[offset : offset + length]


@at_any_alignment
@pytest.mark.parametrize("flags", [0, FUA])
def test_write_changes_these_bytes_and_no_other(client, image, offset, length, flags):
    expected = bytearray(image.read_bytes())
    data = images.random_bytes(length, seed=99)
    expected[offset : offset + length] = data
    client.write(offset, data, flags)
    assert client.read(offset, length) == data
    assert client.read(0, SIZE) == expected
    client.flush()
    assert image.read_bytes() == expected


@pytest.mark.parametrize("command", [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES])
def test_a_length_of_zero_never_disconnects(client, image, command):
    client.error(command, 512, 0)
    assert_in_sync(client, image)
    assert client.read(0, SIZE) == image.read_bytes()


BEYOND = [
    (SIZE, 1),
    (SIZE - 1, 2),
    (0, SIZE + 1),
    (2**64 - 1, 1),
    (2**64 - 1, 2),
    (2**64 - 512, 1024),
    (2**63, 512),
    (2**63 - 1, 512),
]


@pytest.mark.parametrize("offset, length", BEYOND)
def test_beyond_the_end_writes_are_enospc_and_the_others_einval(client, image, offset, length):
    assert client.error(CMD_WRITE, offset, length, 0, b"x" * length) == ENOSPC
    assert client.error(CMD_WRITE_ZEROES, offset, length) == ENOSPC
    for command in (CMD_READ, CMD_TRIM, CMD_CACHE):
        assert client.error(command, offset, length) == EINVAL
    assert image.stat().st_size == SIZE
    assert_in_sync(client, image)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFF000, 0x80000000])
def test_huge_lengths_beyond_the_end_are_refused(client, image, length):
    assert client.error(CMD_WRITE_ZEROES, 0, length) == ENOSPC
    assert client.error(CMD_TRIM, 0, length) == EINVAL
    assert client.error(CMD_READ, 0, length) in (EINVAL, EOVERFLOW)
    assert_in_sync(client, image)


def test_a_read_only_export_refuses_changes_with_eperm(reader, image):
    assert reader.error(CMD_WRITE, 0, 512, 0, bytes(512)) == EPERM
    assert reader.error(CMD_WRITE, 0, 0) in (0, EPERM, EINVAL)
    assert reader.error(CMD_TRIM, 0, 512) == EPERM
    assert reader.error(CMD_WRITE_ZEROES, 0, 512) == EPERM
    assert reader.error(CMD_FLUSH) == 0
    assert_in_sync(reader, image)


@pytest.mark.parametrize("command", [8, 9, 100, 0xFFFF])
def test_an_unknown_command_is_einval(client, image, command):
    assert client.error(command, 0, 512) == EINVAL
    assert_in_sync(client, image)


# A flag that does not belong to the command. FUA is accepted everywhere; DF only with structured
# replies.
MISPLACED = [
    (command, flag)
    for command, allowed in (
        (CMD_READ, DF),
        (CMD_WRITE, PAYLOAD_LEN),
        (CMD_FLUSH, 0),
        (CMD_TRIM, 0),
        (CMD_CACHE, 0),
        (CMD_WRITE_ZEROES, NO_HOLE | FAST_ZERO),
    )
    for flag in (NO_HOLE, DF, REQ_ONE, FAST_ZERO, 1 << 6, 1 << 15)
    if not flag & allowed
]


@pytest.mark.parametrize("command, flag", MISPLACED)
def test_a_flag_that_does_not_belong_to_the_command_is_einval(client, image, command, flag):
    payload = b"x" * 512 if command == CMD_WRITE else b""
    length = 0 if command == CMD_FLUSH else 512
    assert client.error(command, 0, length, flag, payload) == EINVAL
    assert_in_sync(client, image)
    assert client.read(0, SIZE) == image.read_bytes()


def test_df_needs_structured_replies(serve, image):
    with serve(image).client() as client:
        assert client.error(CMD_READ, 0, 512, DF) == EINVAL
        assert_in_sync(client, image)


@pytest.mark.parametrize(
    "command, length",
    [
        (CMD_READ, 512),
        (CMD_WRITE, 512),
        (CMD_FLUSH, 0),
        (CMD_TRIM, 512),
        (CMD_CACHE, 512),
        (CMD_WRITE_ZEROES, 512),
    ],
)
def test_fua_is_accepted_on_every_command(client, command, length):
    assert (
        client.error(command, 0, length, FUA, bytes(length) if command == CMD_WRITE else b"") == 0
    )


@pytest.mark.parametrize(
    "offset, length, flags, expected",
    [(SIZE, 1 << 20, 0, ENOSPC), (0, 100000, REQ_ONE, EINVAL), (SIZE - 1, 2, 0, ENOSPC)],
)
def test_the_payload_of_a_refused_write_is_consumed(client, image, offset, length, flags, expected):
    assert client.error(CMD_WRITE, offset, length, flags, disc_requests(length)) == expected
    assert_in_sync(client, image)


def test_the_payload_of_a_write_to_a_read_only_export_is_consumed(reader, image):
    assert reader.error(CMD_WRITE, 0, 1 << 20, 0, disc_requests(1 << 20)) == EPERM
    assert_in_sync(reader, image)


def disc_requests(length):
    """A payload that would end the connection, were it taken for requests."""
    return (request_message(CMD_DISC) * (length // 28 + 1))[:length]


def test_payloads_of_32_mib_are_served(serve, tmp_path):
    big = images.make_sparse_image(tmp_path / "big.img", 40 << 20)
    data = images.random_bytes(32 << 20)
    server = serve(big)
    for framing in FRAMINGS.values():
        with server.client("", **framing) as client:
            client.write(4096, data)
            assert client.read(4096, len(data)) == data
            client.write(1, data[::-1])
            assert client.read(1, len(data)) == data[::-1]


def test_a_write_larger_than_the_limit_ends_in_an_error_or_a_disconnection(serve, tmp_path):
    """Nobody is obliged to swallow 1 GiB, but memory stays bounded and the next client is
    served.
    """
    big = images.make_sparse_image(tmp_path / "big.img", 2 << 30)
    server = serve(big)
    with server.client() as client:
        try:
            client.send(request_message(CMD_WRITE, 0, 1 << 30))
            for _ in range(1024):
                client.send(bytes(1 << 20))
            assert client.reply()[0].error in (EINVAL, EOVERFLOW)
        except (OSError, Disconnected):
            pass
    with server.client() as client:
        assert client.read(0, 512) == bytes(512)


def test_a_read_larger_than_the_limit_is_eoverflow_or_served(serve, tmp_path):
    big = images.make_sparse_image(tmp_path / "big.img", 1 << 30)
    server = serve(big)
    for framing in FRAMINGS.values():
        with server.client("", **framing) as client:
            client.request(CMD_READ, 0, 512 << 20)
            assert client.reply()[0].error in (0, EOVERFLOW, EINVAL)
            assert client.read(0, 512) == bytes(512)


def test_trim_is_acknowledged_and_write_zeroes_reads_as_zeroes(client, image):
    expected = bytearray(image.read_bytes())
    for offset, length, flags in (
        (0, 4096, 0),
        (4096 * 10 + 1, 70000, 0),
        (1 << 20, 1 << 20, NO_HOLE),
        ((2 << 20) + 511, 4097, FUA),
        (SIZE - 100, 100, NO_HOLE | FUA),
    ):
        assert client.error(CMD_WRITE_ZEROES, offset, length, flags) == 0
        expected[offset : offset + length] = bytes(length)
        assert client.read(0, SIZE) == expected
    assert client.error(CMD_TRIM, 3 << 20, 65536) == 0
    left = client.read(0, SIZE)
    assert (
        left[: 3 << 20] == expected[: 3 << 20]
        and left[(3 << 20) + 65536 :] == expected[(3 << 20) + 65536 :]
    )


def test_no_hole_leaves_the_range_allocated_and_without_it_space_is_given_back(serve, tmp_path):
    path = images.make_image(tmp_path / "disk.img", 8 * images.MIB)
    with serve(path).client() as client:
        full = path.stat().st_blocks
        assert client.error(CMD_WRITE_ZEROES, 0, 4 << 20, NO_HOLE | FUA) == 0
        assert path.stat().st_blocks >= full
        assert client.error(CMD_TRIM, 0, 4 << 20) == 0
        client.flush()
        assert path.stat().st_blocks * 512 <= 5 << 20


def test_fast_zero_succeeds_or_changes_nothing(client, image):
    if not client.transmission_flags & FLAG_SEND_FAST_ZERO:
        assert client.error(CMD_WRITE_ZEROES, 0, 4096, FAST_ZERO) == EINVAL
        return
    before = client.read(0, SIZE)
    for offset, length in ((0, 65536), (100, 1000)):
        error = client.error(CMD_WRITE_ZEROES, offset, length, FAST_ZERO)
        assert error in (0, ENOTSUP)
        after = client.read(offset, length)
        assert after == (bytes(length) if error == 0 else before[offset : offset + length])
        before = client.read(0, SIZE)


def test_cache_succeeds_and_changes_nothing(client, image):
    for offset, length in ((0, SIZE), (1, 1), (4095, 4098)):
        assert client.error(CMD_CACHE, offset, length) == 0
    assert client.read(0, SIZE) == image.read_bytes()


def test_block_status_without_structured_replies_is_einval(serve, image):
    with serve(image).client() as client:
        assert client.error(CMD_BLOCK_STATUS, 0, 512) == EINVAL
        assert_in_sync(client, image)


@pytest.mark.parametrize("framing", ["structured", "extended"])
def test_with_structured_replies_a_read_is_never_answered_by_a_simple_reply(serve, image, framing):
    with serve(image).client("", **FRAMINGS[framing]) as client:
        for arguments in ((0, 512), (SIZE, 1), (0, 512, FAST_ZERO), (0, 512, DF)):
            assert all(chunk.type is not None for chunk in client.transact(CMD_READ, *arguments))


@pytest.mark.parametrize("framing", ["structured", "extended"])
def test_error_chunks_carry_a_text_for_people(serve, image, framing):
    with serve(image).client("", **FRAMINGS[framing]) as client:
        (chunk,) = client.transact(CMD_READ, SIZE, 512)
        assert chunk.type in (CHUNK_ERROR, CHUNK_ERROR_OFFSET)
        (length,) = struct.unpack(">H", chunk.data[4:6])
        message = chunk.data[6 : 6 + length].decode()
        assert len(message) > 5 and len(chunk.data) in (6 + length, 14 + length)


def test_df_gives_a_single_content_chunk_even_over_holes(serve, tmp_path):
    path = images.make_sparse_image(tmp_path / "sparse.img", 1 << 20)
    with open(path, "r+b") as file:
        file.write(b"x" * 8192)
    server = serve(path)
    for framing in ("structured", "extended"):
        with server.client("", **FRAMINGS[framing]) as client:
            for length in (4096, 65536, 32768 + 7):
                content = [
                    chunk
                    for chunk in client.transact(CMD_READ, 0, length, DF)
                    if chunk.type in (CHUNK_DATA, CHUNK_HOLE)
                ]
                assert [chunk.type for chunk in content] == [CHUNK_DATA]
                assert len(content[0].data) == 8 + length


def test_sparse_regions_are_sent_as_hole_chunks(serve, tmp_path):
    path = images.make_sparse_image(tmp_path / "sparse.img", 8 << 20)
    with serve(path).client("", structured=True) as client:
        client.write(0, b"x" * 4096)
        chunks = client.transact(CMD_READ, 0, 4 << 20)
        assert CHUNK_HOLE in {chunk.type for chunk in chunks}
        assert sum(len(chunk.data) for chunk in chunks) < 2 << 20


def test_many_requests_in_flight_are_all_answered_correctly(client, image):
    content = image.read_bytes()
    wanted = {client.request(CMD_READ, index * 4096 + index, 3000): index for index in range(128)}
    writes = [
        client.request(CMD_WRITE, (3 << 20) + index * 100, 100, payload=bytes([index]) * 100)
        for index in range(128)
    ]
    replies = client.replies(256)
    assert replies.keys() == wanted.keys() | set(writes)
    for cookie, index in wanted.items():
        data = b"".join(
            chunk.data if chunk.type is None else chunk.data[8:]
            for chunk in sorted(
                replies[cookie], key=lambda chunk: chunk.data[:8] if chunk.type else b""
            )
            if chunk.type is None or chunk.type == CHUNK_DATA
        )
        assert data == content[index * 4096 + index :][:3000]
    expected = b"".join(bytes([index]) * 100 for index in range(128))
    assert client.read(3 << 20, 12800) == expected


def test_disc_answers_what_is_in_flight_and_then_closes(client, image):
    cookies = [
        client.request(CMD_WRITE, index * 65536, 65536, payload=bytes([index]) * 65536)
        for index in range(32)
    ]
    client.request(CMD_DISC)
    assert sorted(client.replies(32)) == cookies
    assert client.is_closed()
    assert image.read_bytes()[: 32 * 65536] == b"".join(
        bytes([index]) * 65536 for index in range(32)
    )


def test_a_half_closed_client_still_gets_its_replies(client, image):
    content = image.read_bytes()
    cookies = [client.request(CMD_READ, index * 65536, 65536) for index in range(32)]
    client.half_close()
    replies = client.replies(32)
    assert sorted(replies) == cookies
    for index, cookie in enumerate(cookies):
        assert content[index * 65536 :][:65536] in b"".join(chunk.data for chunk in replies[cookie])
    assert client.is_closed()
