"""Extended headers: 64-bit lengths and effects; NBD's branch `extension-ext-header`."""

import struct

import pytest

from support import images
from support.nbd_client import (
    CHUNK_BLOCK_STATUS_EXT,
    CMD_BLOCK_STATUS,
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    EINVAL,
    ENOSPC,
    FLAG_BLOCK_STAT_PAYLOAD,
    FUA,
    OPT_EXTENDED_HEADERS,
    PAYLOAD_LEN,
    REP_ACK,
    Client,
    extended_request_message,
    request_message,
    status_chunks,
)

BIG = 10 << 30
HOLE_AND_ZERO = 3


@pytest.fixture
def big_image(tmp_path):
    """10 GiB of hole, with a word at 5 GiB."""
    path = images.make_sparse_image(tmp_path / "big.img", BIG)
    with open(path, "r+b") as file:
        file.seek(5 << 30)
        file.write(b"word")
    return path


@pytest.fixture
def client(serve, big_image):
    with serve(big_image).client("", extended=True, contexts=["base:allocation"]) as connected:
        yield connected


def test_every_chunk_carries_the_offset_of_its_request(client):
    for offset in (0, 1, (5 << 30) + 2, BIG - 512):
        for command in (CMD_READ, CMD_BLOCK_STATUS, CMD_TRIM):
            assert {chunk.offset for chunk in client.transact(command, offset, 512)} == {offset}


def test_a_compact_request_is_a_wrong_magic_now(client):
    client.send(request_message(CMD_READ, 0, 512) + bytes(4))
    assert client.is_closed()


def test_a_write_without_the_payload_flag_is_served_as_qemu_means_it(serve, image):
    """qemu 8.2 to 10.0 negotiates extended headers and never sets PAYLOAD_LEN. The stream stays in
    sync even where the payload looks like a request, and where the write is refused.
    """
    server = serve("--log-level", "debug", image)
    misleading = extended_request_message(CMD_WRITE, 0, 512, 0, 6, b"y" * 480)
    with server.client("", extended=True) as client:
        for offset, fua in ((0, 0), (1 << 20, FUA), (images.MIB + 7, 0)):
            client.send(extended_request_message(CMD_WRITE, offset, 512, fua, 5, misleading))
            assert [chunk.error for chunk in client.reply()] == [0]
            assert client.read(offset, 512) == misleading
        refused = extended_request_message(CMD_WRITE, 4 * images.MIB, 512, 0, 5, misleading)
        client.send(refused)
        assert client.reply()[0].error == ENOSPC
        assert client.read(0, 512) == misleading
    server.stop()
    assert server.log().count("without PAYLOAD_LEN") == 1


def test_write_zeroes_and_trim_take_more_than_4_gib(client):
    assert client.read(5 << 30, 4) == b"word"
    assert client.error(CMD_WRITE_ZEROES, 0, 6 << 30) == 0
    assert client.read(5 << 30, 4) == bytes(4)
    client.write(7 << 30, b"again")
    assert client.error(CMD_TRIM, 1 << 30, 9 << 30) == 0
    assert client.block_status(0, BIG) == [(BIG, HOLE_AND_ZERO)]


def test_block_status_answers_with_64_bit_extents(client):
    chunks = client.transact(CMD_BLOCK_STATUS, 0, BIG)
    assert CHUNK_BLOCK_STATUS_EXT in [chunk.type for chunk in chunks]
    ((_, extents),) = status_chunks(chunks)
    assert extents[0] == (5 << 30, HOLE_AND_ZERO)
    assert extents[1][1] == 0


def payload_of(effect_length, *context_ids):
    return struct.pack(f">Q{len(context_ids)}I", effect_length, *context_ids)


def status_by_payload(client, effect_length, *context_ids, offset=0):
    payload = payload_of(effect_length, *context_ids)
    return client.transact(CMD_BLOCK_STATUS, offset, len(payload), PAYLOAD_LEN, payload)


def test_the_payload_of_block_status_selects_contexts(client):
    assert client.transmission_flags & FLAG_BLOCK_STAT_PAYLOAD
    ((context_id, extents),) = status_chunks(status_by_payload(client, 5 << 30, client.context_id))
    assert context_id == client.context_id and extents == [(5 << 30, HOLE_AND_ZERO)]


@pytest.mark.parametrize("context_ids", [(77,), (0xFFFFFFFF, 77)])
def test_contexts_that_were_not_negotiated_are_einval(client, context_ids):
    assert client.context_id not in context_ids
    assert status_by_payload(client, 4096, *context_ids)[-1].error == EINVAL
    assert client.read(5 << 30, 4) == b"word"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", bytes(7), payload_of(4096, 1)[:-1], payload_of(4096, *[77] * 1200)],
    ids=len,
)
def test_a_malformed_payload_of_block_status_is_einval_and_in_sync(client, payload):
    assert client.error(CMD_BLOCK_STATUS, 0, len(payload), PAYLOAD_LEN, payload) == EINVAL
    assert client.read(5 << 30, 4) == b"word"


def test_an_effect_beyond_the_end_is_einval(client):
    assert status_by_payload(client, BIG + 1, client.context_id)[-1].error == EINVAL
    assert status_by_payload(client, 2, client.context_id, offset=2**64 - 1)[-1].error == EINVAL


@pytest.mark.parametrize("command", [CMD_READ, CMD_TRIM, CMD_WRITE_ZEROES])
def test_a_payload_where_none_belongs_is_consumed_and_refused(client, command):
    """The length of the header is then that of the payload."""
    assert client.error(command, 0, 512, PAYLOAD_LEN, request_message(0) * 18 + bytes(8)) == EINVAL
    assert client.read(5 << 30, 4) == b"word"


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, BIG + 1, 2**64 - 512])
def test_64_bit_lengths_beyond_the_end_are_refused(client, length):
    for offset in (0, 512, BIG - 1):
        assert client.error(CMD_TRIM, offset, length) == EINVAL
        assert client.error(CMD_WRITE_ZEROES, offset, length) != 0
        assert client.error(CMD_READ, offset, length) != 0
    assert client.read(5 << 30, 4) == b"word"


def test_extended_headers_imply_structured_replies(serve, image):
    with Client(serve(image).connect()) as client:
        client.greet()
        assert client.option_type(OPT_EXTENDED_HEADERS) == REP_ACK
        client.extended = client.structured = True
        assert client.set_meta_context()
        assert client.go().block_status(0, 4096)
