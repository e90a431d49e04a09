"""The end: SIGTERM and SIGINT answer what is in flight, sync, and exit 0; a second signal exits at
once.
"""

import signal

import pytest

from support import images
from support.nbd_client import CMD_READ, CMD_WRITE, Client, Disconnected
from support.server import is_listening
from support.writers import BLOCK, BLOCKS, check_content, start_writers, wait_for_end

pytestmark = pytest.mark.workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("listen", ["unix", "tcp"])
def test_a_signal_ends_an_idle_server_with_status_0(serve, image, number, listen):
    server = serve(image, listen=listen)
    server.signal(number)
    server.wait(0)


def test_idle_connections_do_not_hold_up_the_end(serve, image):
    server = serve(image)
    with server.client() as client, Client(server.connect()) as haggler:
        haggler.greet()
        assert client.read(0, 512)
        server.stop()
        assert client.is_closed() and haggler.is_closed()


def test_requests_in_flight_are_answered_and_their_writes_are_there(serve, image):
    """All of the requests have been received when the signal comes: the reply to a later one says
    so.
    """
    server = serve(image)
    with server.client() as client:
        cookies = [
            client.request(CMD_WRITE, index * 16384, 16384, payload=bytes([index]) * 16384)
            for index in range(100)
        ]
        first = client.chunk()
        server.signal(signal.SIGTERM)
        replies = [first]
        try:
            while True:
                replies.append(client.chunk())
        except Disconnected as closed:
            assert str(closed).startswith("after 0 "), "the last reply was cut short"
        server.wait(0)
        acknowledged = {reply.cookie for reply in replies if reply.error == 0}
        assert acknowledged <= set(cookies)
        content = image.read_bytes()
        for index, cookie in enumerate(cookies):
            if cookie in acknowledged:
                assert content[index * 16384 :][:16384] == bytes([index]) * 16384


@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_every_write_that_was_acknowledged_under_load_is_there(serve, tmp_path, direct_io):
    path = images.make_sparse_image(tmp_path / "disk.img", BLOCK * BLOCKS)
    server = serve("--direct-io", direct_io, path, listen="tcp")
    writers = start_writers(server, 8)
    server.signal(signal.SIGTERM)
    server.wait(0)
    wait_for_end(writers)
    check_content(path.read_bytes(), writers)


def test_a_request_that_was_received_is_answered_whole(serve, image):
    server = serve(image)
    with server.client() as client:
        cookies = {client.request(CMD_READ, index << 20, 1 << 20) for index in range(4)}
        replies = {client.chunk().cookie}  # the others are in flight or on their way to us
        server.signal(signal.SIGTERM)
        try:
            while len(replies) < 4:
                replies.add(client.chunk().cookie)
        except Disconnected as closed:
            assert str(closed).startswith("after 0 "), "a reply was cut short"
        assert replies <= cookies
        server.wait(0)


def test_no_new_connection_is_accepted_while_draining(serve, tmp_path):
    """A client that does not read its replies keeps the server draining."""
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    server = serve(big)
    with server.client() as client:
        client.leave_replies_unread()
        server.signal(signal.SIGTERM)
        server.wait_until(lambda: not is_listening(server.address), "the end of listening")
        with pytest.raises(OSError):
            server.connect()
        client.close()
        server.wait(0)


def test_a_second_signal_exits_at_once(serve, tmp_path):
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    server = serve(big)
    with server.client() as client:
        client.leave_replies_unread()
        server.signal(signal.SIGTERM)
        server.wait_until(lambda: not is_listening(server.address), "the first signal's effect")
        server.signal(signal.SIGTERM)
        server._ended = True
        assert server.has_ended(within_seconds=5), "still there 5 s after the second signal"
        assert "Sanitizer" not in server.output()


def test_a_client_that_never_reads_does_not_hold_up_the_end_for_ever(serve, tmp_path):
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    server = serve(big)
    with server.client() as client:
        client.leave_replies_unread()
        server.signal(signal.SIGTERM)
        server.wait(0, seconds=60)
