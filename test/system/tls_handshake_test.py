"""TLS as the protocol and its attackers see it: what is refused before it and behind it, and
handshakes that stall, lie or end half way.
"""

import select
import socket
import ssl
import subprocess
import threading

import pytest

from support import tls
from support.nbd_client import (
    CMD_READ,
    OPT_ABORT,
    OPT_GO,
    OPT_INFO,
    OPT_LIST,
    OPT_STARTTLS,
    OPT_STRUCTURED_REPLY,
    REP_ACK,
    REP_ERR_INVALID,
    REP_ERR_TLS_REQD,
    REP_ERR_UNSUP,
    REP_SERVER,
    Client,
    Disconnected,
    go_payload,
    option_message,
    request_message,
)
from support.server import WAIT_SECONDS

HANDSHAKE_DEADLINE_SECONDS = 10

pytestmark = pytest.mark.workers


@pytest.fixture
def server(serve, image, tls_arguments):
    return serve(f"disk={image}", *tls_arguments)


def test_where_tls_is_off_starttls_is_unsupported(serve, image):
    with Client(serve(image).connect()).greet() as client:
        assert client.option_type(OPT_STARTTLS) == REP_ERR_UNSUP
        client.go()


def test_where_tls_is_required_nothing_else_is_answered_before_it(server, pki):
    with Client(server.connect()).greet() as client:
        for option in (OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY):
            payload = go_payload("disk") if option in (OPT_INFO, OPT_GO) else b""
            assert client.option_type(option, payload) == REP_ERR_TLS_REQD
        tls.start_tls(client, tls.context(pki)).go("disk")
    with Client(server.connect()).greet() as client:
        assert client.option_type(OPT_ABORT) == REP_ACK


def test_where_tls_is_allowed_plaintext_is_served_and_tls_as_well(
    serve, image, pki, tls_arguments
):
    server = serve(f"disk={image}", *tls_arguments, "--tls", "allow")
    with server.client("disk") as client:
        assert client.read(0, 4096) == image.read_bytes()[:4096]
    with tls.client(server, tls.context(pki), "disk") as client:
        assert client.read(0, 4096) == image.read_bytes()[:4096]


def test_an_export_can_require_tls_of_its_own(serve, image, pki, tmp_path):
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        f"""
[tls]
mode = "allow"
certificate = "{pki}/server-cert.pem"
key = "{pki}/server-key.pem"
[[export]]
name = "open"
path = "{image}"
read_only = true
[[export]]
name = "secret"
path = "{image}"
read_only = true
tls = "require"
"""
    )
    server = serve("--config", config)
    with Client(server.connect()).greet() as client:
        replies = client.option(OPT_LIST)
        listed = [reply.payload[4:] for reply in replies if reply.type == REP_SERVER]
        assert listed == [b"open"]
        assert client.option_type(OPT_GO, go_payload("secret")) == REP_ERR_TLS_REQD
        assert tls.start_tls(client, tls.context(pki)).go("secret").read(0, 512)


def test_a_second_starttls_is_invalid_and_the_connection_goes_on(server, pki):
    with tls.connect(server, tls.context(pki)) as client:
        assert client.option_type(OPT_STARTTLS) == REP_ERR_INVALID
        assert client.go("disk").read(0, 512)


@pytest.mark.parametrize("behind", [OPT_LIST, OPT_STRUCTURED_REPLY, OPT_GO])
def test_plaintext_behind_starttls_closes_the_connection_unanswered(server, behind):
    payload = go_payload("disk") if behind == OPT_GO else b""
    with Client(server.connect()).greet() as client:
        client.send(option_message(OPT_STARTTLS) + option_message(behind, payload))
        assert client.is_closed()
    server.wait_for_log("more behind STARTTLS")


def test_plaintext_instead_of_a_tls_handshake_closes_the_connection(server, pki):
    with Client(server.connect()).greet() as client:
        assert client.option_type(OPT_STARTTLS) == REP_ACK
        client.send(option_message(OPT_GO, go_payload("disk")))
        with pytest.raises(Disconnected):
            while True:  # an alert, and then the end
                client.receive(1)
    with tls.client(server, tls.context(pki), "disk") as client:
        assert client.read(0, 512)


def test_tls_1_1_is_refused(server, pki):
    old = tls.context(pki)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        tls.connect(server, old)
    server.wait_for_log("unsupported protocol")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_handshake_that_ends_at_any_byte_leaks_nothing(server, pki, version):
    hello = client_hello(tls.context(pki), version)
    with tls.client(server, tls.context(pki), "disk") as client:
        client.read(0, 512)
    before = server.file_count()
    for length in range(0, len(hello), 7):
        client = Client(server.connect()).greet()
        assert client.option_type(OPT_STARTTLS) == REP_ACK
        client.send(hello[:length])
        client.close()
    server.wait_until(lambda: server.file_count() <= before, f"{before} open files again")


def client_hello(context, version):
    context.minimum_version = context.maximum_version = version
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(received, sent, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return sent.read()


def test_a_half_closed_tls_handshake_is_closed(server, pki):
    with Client(server.connect()).greet() as client:
        assert client.option_type(OPT_STARTTLS) == REP_ACK
        client.send(client_hello(tls.context(pki), ssl.TLSVersion.TLSv1_3)[:100])
        client.half_close()
        assert client.is_closed()


def test_a_slow_tls_handshake_is_dropped_at_the_deadline(server, pki):
    hello = client_hello(tls.context(pki), ssl.TLSVersion.TLSv1_3)
    with Client(server.connect()).greet() as client:
        client.socket.settimeout(3 * HANDSHAKE_DEADLINE_SECONDS)
        assert client.option_type(OPT_STARTTLS) == REP_ACK
        # A byte now and then does not buy more time.
        sent = 0
        while not select.select([client.socket], [], [], 1)[0]:
            client.send(hello[sent : sent + 1])
            sent += 1
        assert client.is_closed()
        assert sent >= HANDSHAKE_DEADLINE_SECONDS / 2
    with tls.client(server, tls.context(pki), "disk") as client:
        assert client.read(0, 512)


def test_a_tls_handshake_a_byte_at_a_time_works(server, pki, image):
    """And so do the requests behind it, records in pieces as they are then."""
    client = Client(server.connect()).greet()
    assert client.option_type(OPT_STARTTLS) == REP_ACK
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = tls.context(pki).wrap_bio(received, sent, server_hostname="localhost")
    raw = client.socket

    def until_done(step):
        while True:
            try:
                result = step()
                break
            except ssl.SSLWantReadError:
                trickle()
                received.write(raw.recv(1))
        trickle()
        return result

    def trickle():
        for byte in sent.read():
            raw.sendall(bytes([byte]))

    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    until_done(session.do_handshake)
    until_done(lambda: session.write(option_message(OPT_GO, go_payload("disk"))))
    until_done(lambda: session.write(request_message(CMD_READ, 0, 1000, cookie=7)))
    answer = b""
    while len(answer) < 20 + 12 + 20 + 16 + 1000:
        answer += until_done(lambda: session.read(1))
    assert answer[-1000:] == image.read_bytes()[:1000]
    client.close()


def test_several_requests_in_one_record_are_all_answered(server, pki, image):
    """OpenSSL gives them out in parts, with nothing left in the socket to wake anybody up."""
    with tls.client(server, tls.context(pki), "disk") as client:
        count, size = 400, 512
        for cookie in range(count):
            client._expected[cookie] = size  # what a simple reply to it carries
        client.send(
            b"".join(
                request_message(CMD_READ, cookie * size, size, cookie=cookie)
                for cookie in range(count)
            )
        )
        data = image.read_bytes()
        for _ in range(count):
            (chunk,) = client.reply()
            assert chunk.data == data[chunk.cookie * size :][:size]


def test_go_and_the_first_requests_in_one_record_work(server, pki, image):
    with tls.connect(server, tls.context(pki)) as client:
        client._expected = dict.fromkeys(range(100), 4096)
        client.send(
            option_message(OPT_GO, go_payload("disk"))
            + b"".join(
                request_message(CMD_READ, cookie * 4096, 4096, cookie=cookie)
                for cookie in range(100)
            )
        )
        client.take_go(client.option_replies())
        data = image.read_bytes()
        for _ in range(100):
            (chunk,) = client.reply()
            assert chunk.data == data[chunk.cookie * 4096 :][:4096]


def test_a_client_that_never_reads_stalls_itself_alone(server, pki, image):
    with tls.client(server, tls.context(pki), "disk") as stalled:
        for index in range(64):
            stalled.request(CMD_READ, index % 4 << 20, 1 << 20)
        with tls.client(server, tls.context(pki), "disk") as client:
            assert client.read(0, 4 << 20) == image.read_bytes()
            client.write(5, b"x" * 100_000)
        # Replies that were sent in pieces while the socket was full are whole.
        data = image.read_bytes()
        for _ in range(64):
            (chunk,) = stalled.reply()
            offset = (chunk.cookie - 1) % 4 << 20
            assert chunk.data[100_005:] == data[offset : offset + (1 << 20)][100_005:]


def test_replies_to_a_stalled_client_do_not_keep_the_server_from_ending(server, pki):
    with tls.client(server, tls.context(pki), "disk") as stalled:
        for index in range(64):
            stalled.request(CMD_READ, index % 4 << 20, 1 << 20)
        stalled.close()
    server.stop()


def test_a_client_that_says_goodbye_gets_the_replies_before_it(server, pki, image):
    """close_notify ends the client's direction only; the server answers, and says goodbye."""
    with tls.client(server, tls.context(pki), "disk") as client:
        client.request(CMD_READ, 0, 1 << 20)
        client.request(CMD_READ, 1 << 20, 1 << 20)
        client.request(2)  # DISC
        data = image.read_bytes()
        chunks = client.replies(2)
        assert chunks[1][0].data == data[: 1 << 20] and chunks[2][0].data == data[1 << 20 : 2 << 20]
        assert client.socket.recv(1) == b""  # and no error: the end was announced, not cut
        assert client.socket.unwrap()


def test_a_client_that_closes_without_goodbye_loses_no_write(server, pki, image):
    """Its socket ends behind a whole request: the write was sent, so it is done."""
    with tls.client(server, tls.context(pki), "disk") as client:
        client.write(1 << 20, b"g" * 4096)
        client.send(request_message(1, 2 << 20, 4096, cookie=9, payload=b"h" * 4096))
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        server.wait_until(
            lambda: image.read_bytes()[2 << 20 :][:4096] == b"h" * 4096, "the last write"
        )


def test_the_client_cannot_renegotiate(server, pki):
    """OpenSSL's client asks for it when an R is typed; it reaches the server through a relay that
    has done STARTTLS.
    """
    with tls.Relay(server) as relay:
        openssl = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-tls1_2"]
            + ["-CAfile", str(pki / "ca-cert.pem"), "-servername", "localhost"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        guard = threading.Timer(WAIT_SECONDS, openssl.kill)
        guard.start()
        for line in openssl.stdout:
            if b"Extended master secret" in line:
                break  # the last line about the session
        openssl.stdin.write(b"R\n")
        openssl.stdin.flush()
        told = openssl.communicate(timeout=WAIT_SECONDS)[0]
        guard.cancel()
    assert b"no renegotiation" in told, told
    with tls.client(server, tls.context(pki), "disk") as another:
        assert another.read(0, 512)


def test_a_key_update_that_asks_for_another_is_answered(server, pki, image):
    """TLS 1.3: reading then has to write. OpenSSL's client sends one when a K is typed."""
    data = image.read_bytes()
    with tls.Relay(server) as relay:
        openssl = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.port}", "-tls1_3", "-brief"]
            + ["-CAfile", str(pki / "ca-cert.pem"), "-servername", "localhost"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        guard = threading.Timer(WAIT_SECONDS, openssl.kill)
        guard.start()
        openssl.stdin.write(option_message(OPT_GO, go_payload("disk")))
        go = 20 + 12 + 20
        assert len(exactly(openssl.stdout, go)) == go
        for cookie in range(3):
            openssl.stdin.write(b"K\n")
            # It reads in chunks, and takes all of one that begins with a K for the command.
            assert b"KEYUPDATE\n" in iter(openssl.stderr.readline, b""), "no key update"
            openssl.stdin.write(request_message(CMD_READ, 512 * cookie, 512, cookie=cookie))
            assert exactly(openssl.stdout, 16 + 512)[16:] == data[512 * cookie :][:512]
        guard.cancel()
        openssl.kill()
        openssl.communicate()


def exactly(pipe, length):
    received = b""
    while len(received) < length and (more := pipe.read(length - len(received))):
        received += more
    return received
