"""Clients that lie, stall, die or come in crowds: they harm themselves alone."""

import pathlib
import select
import socket
import struct

import pytest

from support import images
from support.nbd_client import (
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    FIXED_NEWSTYLE,
    NO_ZEROES,
    OPT_EXTENDED_HEADERS,
    OPT_GO,
    OPT_LIST,
    OPT_SET_META_CONTEXT,
    OPT_STRUCTURED_REPLY,
    Client,
    Disconnected,
    extended_request_message,
    go_payload,
    meta_context_payload,
    option_message,
    request_message,
)

HANDSHAKE_DEADLINE_SECONDS = 10

pytestmark = pytest.mark.workers


def compact_conversation():
    """The words of a client: every kind of message once."""
    return (
        struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES)
        + option_message(OPT_STRUCTURED_REPLY)
        + option_message(OPT_SET_META_CONTEXT, meta_context_payload("", ["base:allocation"]))
        + option_message(OPT_GO, go_payload())
        + request_message(CMD_READ, 0, 65536)
        + request_message(CMD_WRITE, 4096 + 5, 600, payload=b"w" * 600)
        + request_message(CMD_WRITE_ZEROES, 0, 1 << 20)
        + request_message(CMD_TRIM, 1 << 20, 1 << 20)
        + request_message(3)
        + request_message(7, 0, 1 << 20)
    )


def extended_conversation():
    return (
        struct.pack(">I", FIXED_NEWSTYLE | NO_ZEROES)
        + option_message(OPT_EXTENDED_HEADERS)
        + option_message(OPT_GO, go_payload())
        + extended_request_message(CMD_WRITE, 1, 500, 1 << 5, payload=b"w" * 500)
        + extended_request_message(CMD_READ, 1, 500)
    )


def reset(connection):
    """Closes with a reset, as a process that is killed with data unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("conversation", [compact_conversation, extended_conversation])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_client_that_dies_at_any_byte_leaks_nothing(serve, image, conversation, end):
    server = serve(image, listen="tcp" if end == "reset" else "unix")
    with server.client() as client:
        client.read(0, 512)
    before = server.file_count()
    sent = conversation()
    for length in range(0, len(sent), 5):
        connection = server.connect()
        connection.sendall(sent[:length])
        if end == "reset":
            reset(connection)
        else:
            connection.close()
    server.wait_until(lambda: server.file_count() <= before, f"{before} open files again")
    with server.client() as client:
        assert client.read(3 << 20, 4096) == image.read_bytes()[3 << 20 :][:4096]


def test_clients_that_die_with_replies_unread_leak_nothing(serve, image):
    server = serve(image, "--memory", "16M")
    before = server.file_count()
    for _ in range(50):
        client = server.client()
        for index in range(64):
            client.request(CMD_READ, index * 65536 % (2 << 20), 1 << 20)
        client.close()
    server.wait_until(lambda: server.file_count() <= before, f"{before} open files again")
    with server.client() as client:
        assert client.read(0, 4 << 20) == image.read_bytes()


def test_a_client_that_never_greets_is_dropped_at_the_deadline(serve, image):
    server = serve(image)
    with Client(server.connect()) as silent, Client(server.connect()) as chatty:
        silent.socket.settimeout(2 * HANDSHAKE_DEADLINE_SECONDS)
        silent.greet(None)
        chatty.greet()
        # Saying something now and then does not buy more time.
        while not select.select([chatty.socket], [], [], 1)[0]:
            chatty.send(option_message(OPT_LIST))
            chatty.option_replies()
        assert chatty.is_closed()
        assert silent.is_closed()
        with server.client() as client:
            assert client.read(0, 512)


def test_an_idle_client_in_the_transmission_phase_has_no_deadline(serve, image):
    with serve(image).client() as client:
        assert select.select([client.socket], [], [], 1.2 * HANDSHAKE_DEADLINE_SECONDS)[0] == []
        assert client.read(0, 512)


def test_connections_beyond_the_limit_are_refused_and_room_is_made_again(serve, image):
    server = serve(image, "--max-connections", "8")
    clients = [server.client() for _ in range(8)]
    with Client(server.connect()) as refused:
        with pytest.raises((Disconnected, TimeoutError)):
            refused.socket.settimeout(3)
            refused.greet().go()
    for client in clients:
        assert client.read(0, 512)
    clients.pop().disconnect()

    def is_served():
        try:
            with server.client():
                return True
        except (Disconnected, OSError):
            return False

    server.wait_until(is_served, "room for a new connection")
    for client in clients:
        assert client.read(0, 512)
        client.close()


def test_a_crowd_that_never_finishes_the_handshake_leaves_room_for_others(serve, image):
    server = serve(image, listen="tcp")
    crowd = [server.connect() for _ in range(200)]
    with server.client() as client:
        assert client.read(0, 512)
    for connection in crowd:
        connection.close()


def test_a_client_that_never_reads_stalls_itself_alone(serve, tmp_path):
    big = images.make_image(tmp_path / "big.img", 32 << 20)
    server = serve("--memory", "16M", "--workers", "1", big)
    stalled = server.client()
    stalled.socket.settimeout(1)
    with pytest.raises(OSError):  # at some point the server takes no more requests
        for index in range(1000000):
            stalled.request(CMD_READ, index * 65536 % (31 << 20), 1 << 20)
    with server.client() as client:
        for offset in range(0, 32 << 20, 1 << 20):
            assert len(client.read(offset, 1 << 20)) == 1 << 20
    stalled.close()


def test_a_client_that_stops_in_the_middle_of_a_write_stalls_itself_alone(serve, image):
    server = serve("--memory", "16M", "--workers", "1", image)
    stalled = [server.client() for _ in range(20)]
    for client in stalled:
        client.send(request_message(CMD_WRITE, 0, 4 << 20) + bytes(100000))
    with server.client() as client:
        for offset in range(1 << 20, 4 << 20, 65536):
            client.write(offset, b"y" * 65536)
        assert client.read(1 << 20, 3 << 20) == b"y" * (3 << 20)
    for client in stalled:
        client.close()


@pytest.mark.parametrize("command", [CMD_TRIM, CMD_WRITE_ZEROES])
def test_a_4_gib_trim_or_zero_does_not_stall_others(serve, tmp_path, command):
    big = images.make_sparse_image(tmp_path / "big.img", 5 << 30)
    with open(big, "r+b") as file:
        for gigabyte in range(5):
            file.seek(gigabyte << 30)
            file.write(images.random_bytes(1 << 20))
    server = serve("--workers", "1", big)
    with server.client() as slow, server.client() as quick:
        cookie = slow.request(command, 0, 0xFFFFF000)
        for _ in range(100):
            assert len(quick.read((4 << 30) + 4096, 4096)) == 4096
            quick.write((4 << 30) + 8192, b"z" * 4096)
        assert slow.reply()[0].cookie == cookie
        assert slow.read(0, 4096) == bytes(4096) or command == CMD_TRIM


def test_written_zeroes_over_4_gib_do_not_stall_others(serve, tmp_path, root_only):
    """A file system without fallocate has its zeroes written; requests go on meanwhile."""
    backing = images.make_sparse_image(tmp_path / "vfat.img", 600 << 20)
    images.command("mkfs.ext2", "-q", backing)
    with images.mounted("ext2", backing, tmp_path / "mnt", "loop") as folder:
        path = images.make_sparse_image(folder / "disk.img", 256 << 20)
        server = serve("--workers", "1", path)
        with server.client() as slow, server.client() as quick:
            slow.write(0, b"x" * (1 << 20))
            cookie = slow.request(CMD_WRITE_ZEROES, 0, 128 << 20)
            for _ in range(20):
                quick.write(200 << 20, b"z" * 4096)
            assert slow.reply()[0] == (cookie, None, True, 0, None, 0, b"")
            assert slow.read(0, 1 << 20) == bytes(1 << 20)
            assert quick.read(200 << 20, 4096) == b"z" * 4096
        server.stop()


def test_a_client_that_asks_for_lists_and_never_reads_them_costs_no_memory(tmp_path, serve, image):
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        "".join(
            f'[[export]]\nname = "{index}"\npath = "{image}"\ndescription = "{"x" * 4000}"\n'
            'read_only = true\ndirect_io = "off"\n'
            for index in range(200)
        )
    )
    server = serve("--config", config)

    def memory_kib():
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    before = memory_kib()
    greedy = [Client(server.connect()) for _ in range(4)]
    for client in greedy:
        client.greet()
        client.send(option_message(OPT_LIST) * 256)  # 200 MiB of answers
        client.receive(1)
    with server.client("7") as other:
        assert other.read(0, 512) == image.read_bytes()[:512]
    assert memory_kib() - before < 100 << 10
    for client in greedy:
        client.close()


def test_garbage_instead_of_a_handshake_is_dropped(serve, image):
    server = serve(image, listen="tcp")
    for seed in range(40):
        with Client(server.connect()) as client:
            try:
                client.send(images.random_bytes(4096, seed))
                client.greet(None)
                while client.socket.recv(65536):
                    pass
            except (OSError, Disconnected):
                pass
    with server.client() as client:
        assert client.read(0, 512)


def test_garbage_instead_of_requests_is_dropped(serve, image):
    server = serve("--read-only", image)
    for seed in range(40):
        for framing in ({}, {"structured": True}, {"extended": True}):
            with server.client("", **framing) as client:
                try:
                    client.send(images.random_bytes(4096, seed))
                    while client.socket.recv(65536):
                        pass
                except OSError:
                    pass
    with server.client() as client:
        assert client.read(0, 512)
