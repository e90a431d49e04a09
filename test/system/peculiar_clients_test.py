"""Widespread clients send things that the specification does not ask of them, or forbids: one
table, the bytes made by hand, since the machine's own clients do not have them all.

A row says what a client is known for, how it names itself through the handshake, and its requests
with the replies that it expects, byte for byte. The rule: strict in what is sent, liberal in what
a widespread client sends, where the meaning is certain.
"""

import dataclasses
import struct

import pytest

from support import images
from support.nbd_client import (
    CHUNK_DATA,
    CHUNK_NONE,
    CMD_BLOCK_STATUS,
    CMD_DISC,
    CMD_FLUSH,
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    EXTENDED_REPLY_MAGIC,
    FIXED_NEWSTYLE,
    FUA,
    INFO_BLOCK_SIZE,
    NO_ZEROES,
    OPT_EXPORT_NAME,
    OPT_EXTENDED_HEADERS,
    OPT_GO,
    OPT_LIST,
    OPT_SET_META_CONTEXT,
    OPT_STRUCTURED_REPLY,
    REPLY_DONE,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Client,
    extended_request_message,
    go_payload,
    meta_context_payload,
    option_message,
    request_message,
    status_chunks,
)

SIZE = 4 * images.MIB
CONTENT = images.random_bytes(SIZE)  # of the fixture `image`
NAME = "disk"
SECTOR = images.random_bytes(512, seed=2)
PAGE = images.random_bytes(4096, seed=3)


def simple(cookie, data=b""):
    return struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, 0, cookie) + data


def structured(cookie, offset=0, data=b""):
    kind, length = (CHUNK_DATA, 8 + len(data)) if data else (CHUNK_NONE, 0)
    header = struct.pack(">IHHQI", STRUCTURED_REPLY_MAGIC, REPLY_DONE, kind, cookie, length)
    return header + (struct.pack(">Q", offset) + data if data else b"")


def extended(cookie, offset, data=b""):
    kind, length = (CHUNK_DATA, 8 + len(data)) if data else (CHUNK_NONE, 0)
    header = struct.pack(">IHHQQQ", EXTENDED_REPLY_MAGIC, REPLY_DONE, kind, cookie, offset, length)
    return header + (struct.pack(">Q", offset) + data if data else b"")


@dataclasses.dataclass
class Conversation:
    """`options` come before the one that chooses the export: GO, or EXPORT_NAME where `go` is
    None. `exchange` has requests and the reply to each; a tuple is sent in that many segments.
    """

    client_flags: int
    exchange: list
    options: tuple = ()
    go: bytes = None
    says_goodbye: bool = True
    byte_by_byte: bool = False


LATEST = FIXED_NEWSTYLE | NO_ZEROES
LAST = SIZE - 512

TABLE = {
    "qemu 8.2 to 10: extended headers, and no WRITE with PAYLOAD_LEN": Conversation(
        LATEST,
        [
            (extended_request_message(CMD_WRITE, 513, 512, 0, 1, SECTOR), extended(1, 513)),
            (extended_request_message(CMD_WRITE, 0, 512, FUA, 2, SECTOR), extended(2, 0)),
            (extended_request_message(CMD_READ, 513, 512, 0, 3), extended(3, 513, SECTOR)),
            (extended_request_message(CMD_FLUSH, 0, 0, 0, 4), extended(4, 0)),
        ],
        options=(
            (OPT_EXTENDED_HEADERS, b""),
            (OPT_SET_META_CONTEXT, meta_context_payload(NAME, ["base:allocation"])),
        ),
        go=go_payload(NAME, [INFO_BLOCK_SIZE]),
    ),
    "qemu 2.11 to 8.1: structured replies, the header and the payload of a WRITE apart": (
        Conversation(
            LATEST,
            [
                ((request_message(CMD_WRITE, 4095, 512, 0, 7), SECTOR), structured(7)),
                (request_message(CMD_READ, 4095, 512, 0, 8), structured(8, 4095, SECTOR)),
            ],
            options=(
                (OPT_STRUCTURED_REPLY, b""),
                (OPT_SET_META_CONTEXT, meta_context_payload(NAME, ["base:allocation"])),
            ),
            go=go_payload(NAME, [INFO_BLOCK_SIZE]),
        )
    ),
    "Linux: 512-byte blocks whatever was advertised, cookies that count from 2^32": Conversation(
        LATEST,
        [
            (request_message(CMD_READ, 512, 512, 0, 1 << 32), simple(1 << 32, CONTENT[512:1024])),
            (request_message(CMD_WRITE, 512, 512, 0, 2 << 32, SECTOR), simple(2 << 32)),
            (request_message(CMD_WRITE, LAST, 512, FUA, 3 << 32, SECTOR), simple(3 << 32)),
            (request_message(CMD_TRIM, 1024, 512, 0, 4 << 32), simple(4 << 32)),
            (request_message(CMD_FLUSH, 0, 0, 0, 5 << 32), simple(5 << 32)),
            (request_message(CMD_READ, 512, 512, 0, 6 << 32), simple(6 << 32, SECTOR)),
        ],
        go=go_payload(NAME),
    ),
    "xapi: no NO_ZEROES, EXPORT_NAME in two segments, cookie 0, no goodbye": Conversation(
        FIXED_NEWSTYLE,
        [
            (request_message(CMD_READ, 0, 4096), simple(0, CONTENT[:4096])),
            ((request_message(CMD_WRITE, 8192, 4096, 0, 1), PAGE), simple(1)),
            (request_message(CMD_READ, 8192, 4096, 0, 2), simple(2, PAGE)),
        ],
        options=((OPT_LIST, b""),),
        says_goodbye=False,
    ),
    "clients before fixed newstyle: no flag at all, EXPORT_NAME alone": Conversation(
        0,
        [
            (request_message(CMD_READ, LAST, 512, 0, 9), simple(9, CONTENT[LAST:])),
            (request_message(CMD_WRITE, LAST, 512, 0, 9, SECTOR), simple(9)),
        ],
    ),
    "one byte a segment": Conversation(
        LATEST,
        [
            (request_message(CMD_WRITE, 1, 512, 0, 1, SECTOR), simple(1)),
            (request_message(CMD_READ, 1, 512, 0, 1), simple(1, SECTOR)),
        ],
        byte_by_byte=True,
    ),
}


@pytest.fixture(params=["unix", "tcp"])
def listen(request):
    return request.param


def send(client, conversation, message):
    parts = message if isinstance(message, tuple) else (message,)
    if conversation.byte_by_byte:
        parts = [bytes([byte]) for part in parts for byte in part]
    for part in parts:
        client.send(part)


def shake_hands(client, conversation):
    client.greet(None)
    send(client, conversation, struct.pack(">I", conversation.client_flags))
    for option, payload in conversation.options:
        client.option(option, payload)
    if conversation.go:
        client.take_go(client.option(OPT_GO, conversation.go))
        return
    header = option_message(OPT_EXPORT_NAME, length=len(NAME))
    send(client, conversation, (header, NAME.encode()))
    (client.size, _) = client.unpack(">QH")
    if not conversation.client_flags & NO_ZEROES:
        assert client.receive(124) == bytes(124)


@pytest.mark.parametrize("who", TABLE)
def test_peculiar_clients_are_served(serve, image, listen, who):
    conversation = TABLE[who]
    server = serve(f"{NAME}={image}", listen=listen)
    with Client(server.connect()) as client:
        shake_hands(client, conversation)
        assert client.size == SIZE
        for message, reply in conversation.exchange:
            send(client, conversation, message)
            assert client.receive(len(reply)) == reply
        if conversation.says_goodbye:
            has_extended = (OPT_EXTENDED_HEADERS, b"") in conversation.options
            client.send((extended_request_message if has_extended else request_message)(CMD_DISC))
            assert client.is_closed()
    with server.client(NAME) as next_client:
        assert next_client.read(0, SIZE) == image.read_bytes() != CONTENT


def test_512_byte_requests_are_served_on_4096_byte_blocks(serve, loop_device):
    """nbd-client and the kernel use 512 bytes unless told otherwise, side by side, in one block."""
    server = serve(f"{NAME}={loop_device}")
    data = [images.random_bytes(512, seed=index) for index in range(64)]
    with server.client(NAME) as client:
        for index, sector in enumerate(data):
            client.request(CMD_WRITE, (index + 3) * 512, 512, payload=sector)
        assert len(client.replies(len(data))) == len(data)
        assert client.read(3 * 512, 64 * 512) == b"".join(data)


@pytest.mark.parametrize("framing", ["simple", "structured", "extended"])
@pytest.mark.parametrize("offset, length", [(1000, 50_000_000), (4096, 64 << 20)])
def test_requests_beyond_the_advertised_maximum_are_served(
    serve, tmp_path, framing, offset, length
):
    """The NBD project's test client reads and writes 50 MB at once. Pieces need no more memory:
    the server has the least there is, for two workers.
    """
    big = images.make_sparse_image(tmp_path / "big.img", 80 << 20)
    server = serve("--memory", "8M", big)
    data = images.random_bytes(length)
    with server.client("", **({} if framing == "simple" else {framing: True})) as client:
        client.write(offset, data, FUA)
        assert client.read(offset, length) == data


def test_block_status_of_almost_4_gib_with_two_contexts_asked_for(serve, tmp_path):
    """virtnbdbackup asks for 2^32 - 512 bytes at a time, having asked for a bitmap, too, and goes
    on where the extents end.
    """
    size = 10 << 30
    big = images.make_sparse_image(tmp_path / "big.img", size)
    with open(big, "r+b") as file:
        file.seek(5 << 30)
        file.write(bytes(range(1, 256)))
    contexts = ["base:allocation", "qemu:dirty-bitmap:backup"]
    offset, extents = 0, []
    with serve(big).client("", structured=True, contexts=contexts) as client:
        while offset < size:
            chunks = client.transact(CMD_BLOCK_STATUS, offset, min(size - offset, 2**32 - 512))
            ((context, found),) = status_chunks(chunks)
            assert context == client.context_id
            extents += found
            offset = sum(length for length, _ in extents)
    assert offset == size
    assert sum(length for length, flags in extents if flags == 0) in (512, 4096)
