"""A client of the NBD protocol that does exactly what a test says, right or wrong.

Written from the specification, independently of the server's code. Words are the specification's.
Every read has the socket's time limit, so that a missing reply fails a test and does not hang it.
"""

import collections
import socket
import struct

GREETING_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF
EXTENDED_REQUEST_MAGIC = 0x21E41C71
EXTENDED_REPLY_MAGIC = 0x6E8A278C

FIXED_NEWSTYLE, NO_ZEROES = 1, 2  # handshake and client flags

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 5, 6, 7
OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_EXTENDED_HEADERS = (
    8,
    9,
    10,
    11,
)

REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_PLATFORM = (
    0x80000000 + n for n in (1, 2, 3, 4)
)
REP_ERR_TLS_REQD, REP_ERR_UNKNOWN, REP_ERR_SHUTDOWN = (0x80000000 + n for n in (5, 6, 7))
REP_ERR_BLOCK_SIZE_REQD, REP_ERR_TOO_BIG, REP_ERR_EXT_HEADER_REQD = (
    0x80000000 + n for n in (8, 9, 10)
)

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3

FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_SEND_FLUSH, FLAG_SEND_FUA, FLAG_ROTATIONAL = (
    1 << n for n in range(5)
)
FLAG_SEND_TRIM, FLAG_SEND_WRITE_ZEROES, FLAG_SEND_DF, FLAG_CAN_MULTI_CONN = (
    1 << n for n in (5, 6, 7, 8)
)
FLAG_SEND_CACHE, FLAG_SEND_FAST_ZERO, FLAG_BLOCK_STAT_PAYLOAD = (1 << n for n in (10, 11, 12))

(
    CMD_READ,
    CMD_WRITE,
    CMD_DISC,
    CMD_FLUSH,
    CMD_TRIM,
    CMD_CACHE,
    CMD_WRITE_ZEROES,
    CMD_BLOCK_STATUS,
) = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))  # command flags

REPLY_DONE = 1  # structured reply flag
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_BLOCK_STATUS, CHUNK_BLOCK_STATUS_EXT = 0, 1, 2, 5, 6
CHUNK_ERROR, CHUNK_ERROR_OFFSET = 0x8001, 0x8002

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108

OptionReply = collections.namedtuple("OptionReply", "option type payload")
# Of a simple reply `type` is None, and `error` its error field. `data` is what follows the header.
Chunk = collections.namedtuple("Chunk", "cookie type done error offset length data")


class Disconnected(Exception):
    """The server has closed the connection (with or without a reset) where a message was
    expected.
    """


def text(string):
    encoded = string if isinstance(string, bytes) else string.encode()
    return struct.pack(">I", len(encoded)) + encoded


def go_payload(export_name="", information=()):
    return text(export_name) + struct.pack(f">H{len(information)}H", len(information), *information)


def meta_context_payload(export_name, queries):
    return text(export_name) + struct.pack(">I", len(queries)) + b"".join(map(text, queries))


def option_message(option, payload=b"", length=None):
    """`length` is for lies about the payload."""
    length = len(payload) if length is None else length
    return struct.pack(">QII", OPTION_MAGIC, option, length) + payload


def request_message(command, offset=0, length=0, flags=0, cookie=0, payload=b""):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset, length) + payload


def extended_request_message(command, offset=0, length=0, flags=0, cookie=0, payload=b""):
    return (
        struct.pack(">IHHQQQ", EXTENDED_REQUEST_MAGIC, flags, command, cookie, offset, length)
        + payload
    )


class Client:
    """One connection. Beyond start() and the commands, everything can be sent and received piece by
    piece.
    """

    def __init__(self, connection):
        self.socket = connection
        self.structured = self.extended = False
        self.handshake_flags = self.transmission_flags = self.size = self.context_id = None
        self._cookie = 0
        self._expected = {}  # cookie -> length of a READ's data in a simple reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # Bytes

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, length):
        data = bytearray()
        while len(data) < length:
            try:
                piece = self.socket.recv(length - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Disconnected(f"after {len(data)} of {length} bytes")
            data += piece
        return bytes(data)

    def unpack(self, layout):
        return struct.unpack(layout, self.receive(struct.calcsize(layout)))

    def is_closed(self):
        """Waits for the server to close; False if it sends something instead."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    # Handshake

    def greet(self, client_flags=FIXED_NEWSTYLE | NO_ZEROES):
        """Reads the greeting and answers it; None only reads."""
        magic, option_magic, self.handshake_flags = self.unpack(">QQH")
        assert (magic, option_magic) == (GREETING_MAGIC, OPTION_MAGIC)
        if client_flags is not None:
            self.send(struct.pack(">I", client_flags))
        return self

    def option_reply(self):
        magic, option, kind, length = self.unpack(">QIII")
        assert magic == OPTION_REPLY_MAGIC, hex(magic)
        return OptionReply(option, kind, self.receive(length))

    def option_replies(self):
        """All replies to one option, the final one last."""
        replies = [self.option_reply()]
        while replies[-1].type in (REP_SERVER, REP_INFO, REP_META_CONTEXT):
            replies.append(self.option_reply())
        return replies

    def option(self, option, payload=b"", length=None):
        self.send(option_message(option, payload, length))
        replies = self.option_replies()
        assert all(reply.option == option for reply in replies), replies
        return replies

    def option_type(self, option, payload=b"", length=None):
        """The type of the final reply alone."""
        return self.option(option, payload, length)[-1].type

    def set_meta_context(self, export_name="", queries=("base:allocation",)):
        """The selected contexts: id -> name."""
        *contexts, final = self.option(
            OPT_SET_META_CONTEXT, meta_context_payload(export_name, queries)
        )
        assert final.type == REP_ACK, final
        return {
            struct.unpack(">I", reply.payload[:4])[0]: reply.payload[4:].decode()
            for reply in contexts
        }

    def take_go(self, replies):
        assert replies[-1].type == REP_ACK, replies
        exports = [reply.payload for reply in replies[:-1] if reply.payload[:2] == b"\0\0"]
        _, self.size, self.transmission_flags = struct.unpack(">HQH", exports[0])
        return self

    def go(self, export_name="", information=()):
        return self.take_go(self.option(OPT_GO, go_payload(export_name, information)))

    def start(self, export_name="", structured=False, extended=False, contexts=()):
        """From the greeting to the transmission phase."""
        self.greet()
        if structured:
            assert self.option_type(OPT_STRUCTURED_REPLY) == REP_ACK
        if extended:
            assert self.option_type(OPT_EXTENDED_HEADERS) == REP_ACK
        self.structured, self.extended = structured or extended, extended
        if contexts:
            (self.context_id,) = self.set_meta_context(export_name, contexts)
        return self.go(export_name)

    # Transmission

    def request(self, command, offset=0, length=0, flags=0, payload=b"", cookie=None):
        """Sends a request and returns its cookie."""
        if cookie is None:
            self._cookie += 1
            cookie = self._cookie
        if self.extended and command == CMD_WRITE:
            flags |= PAYLOAD_LEN
        encode = extended_request_message if self.extended else request_message
        self._expected[cookie] = length if command == CMD_READ else 0
        self.send(encode(command, offset, length, flags, cookie, payload))
        return cookie

    def chunk(self):
        """One reply chunk, or a simple reply."""
        (magic,) = self.unpack(">I")
        if magic == SIMPLE_REPLY_MAGIC:
            error, cookie = self.unpack(">IQ")
            length = self._expected.get(cookie, 0) if not error else 0
            return Chunk(cookie, None, True, error, None, length, self.receive(length))
        if self.extended:
            assert magic == EXTENDED_REPLY_MAGIC, hex(magic)
            flags, kind, cookie, offset, length = self.unpack(">HHQQQ")
        else:
            assert magic == STRUCTURED_REPLY_MAGIC, hex(magic)
            flags, kind, cookie, length = self.unpack(">HHQI")
            offset = None
        data = self.receive(length)
        error = struct.unpack(">I", data[:4])[0] if kind in (CHUNK_ERROR, CHUNK_ERROR_OFFSET) else 0
        return Chunk(cookie, kind, bool(flags & REPLY_DONE), error, offset, length, data)

    def reply(self):
        """The chunks of one reply, of whichever request; replies must not be interleaved for
        this.
        """
        chunks = [self.chunk()]
        while not chunks[-1].done:
            chunks.append(self.chunk())
            assert chunks[-1].cookie == chunks[0].cookie
        return chunks

    def replies(self, count):
        """The chunks of the next `count` replies by cookie, in whichever order they come."""
        chunks, done = {}, 0
        while done < count:
            chunk = self.chunk()
            chunks.setdefault(chunk.cookie, []).append(chunk)
            done += chunk.done
        return chunks

    def transact(self, command, offset=0, length=0, flags=0, payload=b""):
        cookie = self.request(command, offset, length, flags, payload)
        chunks = self.reply()
        assert chunks[0].cookie == cookie
        return chunks

    def error(self, command, offset=0, length=0, flags=0, payload=b""):
        """The error of a request, 0 if it succeeded."""
        return next(
            (
                chunk.error
                for chunk in self.transact(command, offset, length, flags, payload)
                if chunk.error
            ),
            0,
        )

    def read(self, offset, length, flags=0):
        return assemble(self.transact(CMD_READ, offset, length, flags), offset, length)

    def write(self, offset, data, flags=0):
        error = self.error(CMD_WRITE, offset, len(data), flags, data)
        assert error == 0, f"write at {offset}: {error}"

    def flush(self):
        error = self.error(CMD_FLUSH)
        assert error == 0, f"flush: {error}"

    def block_status(self, offset, length, flags=0):
        """The extents as (length, flags)."""
        (extents,) = (
            extents
            for _, extents in status_chunks(self.transact(CMD_BLOCK_STATUS, offset, length, flags))
        )
        return extents

    def leave_replies_unread(self):
        """Asks an export of 8 MiB for more than sockets hold, and reads the first reply only."""
        for index in range(100):
            self.request(CMD_READ, index % 8 << 20, 1 << 20)
        self.chunk()

    def disconnect(self):
        """DISC, and the server's end of the connection after it."""
        self.request(CMD_DISC)
        assert self.is_closed()
        self.close()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)


def assemble(chunks, offset, length):
    """The data of a READ: chunks lie inside the request, do not overlap and cover it."""
    if chunks[0].type is None:
        assert chunks[0].error == 0, chunks[0].error
        return chunks[0].data
    data, covered = bytearray(length), bytearray(length)
    for chunk in chunks:
        assert chunk.error == 0, (chunk.error, chunk.data)
        if chunk.type == CHUNK_NONE:
            continue
        (start,) = struct.unpack(">Q", chunk.data[:8])
        content = chunk.data[8:]
        if chunk.type == CHUNK_HOLE:
            content = bytes(*struct.unpack(">I", content))
        else:
            assert chunk.type == CHUNK_DATA and content, chunk
        begin = start - offset
        assert 0 <= begin and begin + len(content) <= length, "a chunk outside of the request"
        assert not any(covered[begin : begin + len(content)]), "chunks overlap"
        covered[begin : begin + len(content)] = b"\1" * len(content)
        data[begin : begin + len(content)] = content
    assert all(covered), "the chunks do not cover the request"
    return bytes(data)


def status_chunks(chunks):
    """The block status chunks of a reply: (context id, [(length, flags)]) each."""
    found = []
    for chunk in chunks:
        assert chunk.error == 0, (chunk.error, chunk.data)
        if chunk.type == CHUNK_BLOCK_STATUS:
            found.append(
                (
                    struct.unpack(">I", chunk.data[:4])[0],
                    list(struct.iter_unpack(">II", chunk.data[4:])),
                )
            )
        elif chunk.type == CHUNK_BLOCK_STATUS_EXT:
            context_id, count = struct.unpack(">II", chunk.data[:8])
            extents = list(struct.iter_unpack(">QQ", chunk.data[8:]))
            assert len(extents) == count
            found.append((context_id, extents))
    return found
