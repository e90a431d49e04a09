"""Rights of clients: rules for networks, users, certificates and keys, and leases for writers."""

import json
import os
import socket
import struct
import subprocess

import pytest

from support import certificates, images, server, tls
from support.nbd_client import (
    CMD_WRITE,
    EPERM,
    FLAG_READ_ONLY,
    OPT_GO,
    OPT_LIST,
    REP_ERR_UNKNOWN,
    REP_SERVER,
    Client,
    go_payload,
    request_message,
)
from support.server import WAIT_SECONDS


@pytest.fixture
def configured(serve, image, pki, tmp_path):
    """configured(rules, ...): a server of exports e0, e1, ... with these rules, listening with TLS
    allowed."""

    def start(*rules, listen="unix"):
        exports = "".join(
            f'[[export]]\nname = "e{number}"\npath = "{image}"\nread_only = true\n{rule}\n'
            for number, rule in enumerate(rules)
        )
        config = tmp_path / "loopnbd.toml"
        config.write_text(
            f"""
[tls]
mode = "allow"
certificate = "{pki}/server-cert.pem"
key = "{pki}/server-key.pem"
psk_file = "{pki}/keys.psk"
client_ca = "{pki}/ca-cert.pem"
{exports}"""
        )
        return serve("--config", config, listen=listen)

    return start


def listed(client):
    replies = client.option(OPT_LIST)
    return [reply.payload[4:].decode() for reply in replies if reply.type == REP_SERVER]


def test_the_exports_of_others_are_neither_listed_nor_found_nor_the_default(configured):
    mine = os.getuid()
    server = configured(f'allow = ["uid:{mine + 1}"]', f'allow = ["uid:{mine}"]')
    with Client(server.connect()).greet() as client:
        assert listed(client) == ["e1"]
        assert client.option_type(OPT_GO, go_payload("e0")) == REP_ERR_UNKNOWN
        assert client.go("").read(0, 512)


def test_users_and_groups_of_a_unix_socket_are_those_of_the_client_process(
    configured, root_only, tmp_path
):
    server = configured('allow = ["uid:4242"]', 'allow = ["gid:4343"]', 'allow = ["gid:4444"]')
    with Client(server.connect()).greet() as client:
        assert listed(client) == []
    os.chmod(server.address, 0o777)
    os.chmod(tmp_path, 0o755)
    told = images.command(
        "nbdinfo", "--list", "--json", server.uri(), user=4242, group=1, extra_groups=[4444]
    )
    assert [export["export-name"] for export in json.loads(told)["exports"]] == ["e0", "e2"]


@pytest.mark.parametrize("host, listen", [("127.0.0.2", "tcp"), ("::1", "tcp6")])
def test_networks_are_those_of_the_address_that_a_client_comes_from(configured, host, listen):
    server = configured(
        'allow = ["127.0.0.2"]',
        'allow = ["127.0.0.0/30"]',
        'allow = ["127.0.0.4/30"]',
        'allow = ["::/0"]',
        'allow = ["127.0.0.2", "::1/128"]',
        listen=listen,
    )
    connection = socket.create_connection(server.address, WAIT_SECONDS, source_address=(host, 0))
    with Client(connection).greet() as client:
        assert listed(client) == (["e0", "e1", "e4"] if listen == "tcp" else ["e3", "e4"])


@pytest.mark.parametrize("host, known", [("127.0.0.1", True), ("::1", False)])
def test_a_dual_stack_socket_sees_ipv4_clients_as_ipv4(image, host, known):
    """Such sockets come from systemd or, as here, from inetd; ours are for one family each."""
    with socket.create_server(
        ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listener:
        ours = socket.create_connection((host, listener.getsockname()[1]), WAIT_SECONDS)
        theirs, _ = listener.accept()
    running = server.Server(
        ["--stdio", "--allow", "127.0.0.0/8", f"disk={image}"], stdin=theirs, stdout=theirs
    )
    theirs.close()
    with Client(ours).greet() as client:
        if known:
            assert client.go("disk").read(0, 512)
        else:
            assert client.option_type(OPT_GO, go_payload("disk")) == REP_ERR_UNKNOWN
    running.wait()


def test_certificates_and_keys_open_exports_to_their_names(configured, pki, tmp_path):
    server = configured(
        'allow = ["cert:CN=node-*"]',
        'allow = ["cert:CN=node-*,O=Example"]',
        'allow = ["cert:CN=other"]',
        'allow = ["psk:backup"]',
        'allow = ["psk:*"]',
    )

    def names(**access):
        told = images.command("nbdinfo", "--list", "--json", tls.uri(server, "", **access))
        return [export["export-name"] for export in json.loads(told)["exports"]]

    assert names(tls_certificates=pki) == ["e0", "e1"]
    keys = {"tls_psk_file": pki / "keys.psk"}
    assert names(user="backup", **keys) == ["e3", "e4"]
    assert names(user="alice", **keys) == ["e4"]
    for name in ("ca-cert.pem", "ca-key.pem"):
        (tmp_path / name).write_bytes((pki / name).read_bytes())
    certificates.make_client_certificate(tmp_path, "client", "other")
    assert names(tls_certificates=tmp_path) == ["e2"]
    # Nobody is known by name yet: a name counts only behind STARTTLS.
    with Client(server.connect()).greet() as client:
        assert listed(client) == []
        tls.start_tls(client, tls.context(pki, "client"))
        assert listed(client) == ["e0", "e1"]


def test_a_key_that_a_client_only_claims_to_have_opens_nothing(configured, pki, tmp_path):
    """The user exists and the key is wrong."""
    server = configured('allow = ["psk:backup"]')
    wrong = tmp_path / "wrong.psk"
    images.command("psktool", "-u", "backup", "-p", wrong)
    result = subprocess.run(
        ["nbdinfo", tls.uri(server, "e0", user="backup", tls_psk_file=wrong)],
        timeout=WAIT_SECONDS,
        capture_output=True,
        check=False,
    )
    assert result.returncode != 0


def test_a_reader_is_told_so_and_others_write(serve, image, pki, tls_arguments):
    server = serve(f"disk={image}", *tls_arguments, "--read-only-for", "psk:reader")
    keys = {"tls_psk_file": pki / "keys.psk"}
    for user, read_only in (("reader", True), ("alice", False)):
        told = images.command("nbdinfo", "--json", tls.uri(server, "disk", user=user, **keys))
        assert json.loads(told)["exports"][0]["is_read_only"] is read_only
    source = images.make_image(image.parent / "new.img", image.stat().st_size, seed=8)
    failed = subprocess.run(
        ["nbdcopy", source, tls.uri(server, "disk", user="reader", **keys)],
        timeout=WAIT_SECONDS,
        capture_output=True,
        check=False,
    )
    assert failed.returncode != 0
    images.command("nbdcopy", "--flush", source, tls.uri(server, "disk", user="alice", **keys))
    assert images.sha256(image) == images.sha256(source)


# Leases for writers


def client_from(server, host):
    connection = socket.create_connection(server.address, WAIT_SECONDS, source_address=(host, 0))
    return Client(connection).start("disk")


def may_write(client):
    return not client.transmission_flags & FLAG_READ_ONLY


@pytest.mark.workers
def test_one_address_writes_with_all_its_connections_and_others_read(serve, image):
    server = serve(f"disk={image}", "--writers", "1", listen="tcp")
    writers = [client_from(server, "127.0.0.1") for _ in range(6)]
    assert all(map(may_write, writers))
    with client_from(server, "127.0.0.2") as reader:
        assert not may_write(reader)
        assert reader.error(CMD_WRITE, 0, 512, payload=b"x" * 512) == EPERM
        writers[3].write(0, b"w" * 512)
        assert reader.read(0, 512) == b"w" * 512
    server.wait_for_log(r"read-only for it while 127\.0\.0\.1 may write \(writers = 1\)")
    for writer in writers:
        writer.close()


@pytest.mark.workers
@pytest.mark.parametrize("death", ["disconnect", "close", "reset", "half-close", "in a payload"])
def test_a_lease_ends_with_every_kind_of_death(serve, image, death):
    server = serve(f"disk={image}", "--writers", "1", listen="tcp")
    for _ in range(20):
        holders = [client_from(server, "127.0.0.1") for _ in range(2)]
        assert all(map(may_write, holders))
        for client in holders:
            end(client, death)
        server.wait_until(lambda: is_free(server), "the lease")
        server.wait_until(lambda: is_free(server, "127.0.0.1"), "the lease of the first again")


def is_free(server, host="127.0.0.2"):
    with client_from(server, host) as client:
        granted = may_write(client)
        client.disconnect()
        return granted


def end(client, death):
    if death == "disconnect":
        client.disconnect()
    elif death == "half-close":
        client.half_close()
    elif death == "in a payload":
        client.send(request_message(CMD_WRITE, 0, 4096, payload=b"x" * 100))
    if death == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.workers
def test_the_lease_of_a_killed_process_ends_and_its_writes_come_first(serve, image):
    """On a Unix socket, each process is a client of its own."""
    server = serve(f"disk={image}", "--writers", "1")
    script = f"""
import nbd, sys
h = nbd.NBD()
h.connect_unix({server.address!r})
assert not h.is_read_only()
buffer = nbd.Buffer.from_bytearray(bytearray(b"o" * (1 << 20)))
for offset in range(0, 4 << 20, 1 << 20):
    h.aio_pwrite(buffer, offset)
print("ready", flush=True)
sys.stdin.read()
"""
    for _ in range(5):
        holder = subprocess.Popen(
            ["/usr/bin/python3", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout.readline() == b"ready\n"
        with server.client() as reader:
            assert not may_write(reader)
        holder.kill()
        holder.wait(WAIT_SECONDS)

        def takes_over():
            with server.client() as client:
                if not may_write(client):
                    return False
                client.write(0, b"n" * (4 << 20))
                client.flush()
                client.disconnect()
                return True

        server.wait_until(takes_over, "the lease")
        assert image.read_bytes() == b"n" * (4 << 20)


def test_nbdinfo_without_more_than_a_question_takes_no_lease(serve, image):
    server = serve(f"disk={image}", "--writers", "1", listen="tcp")
    with client_from(server, "127.0.0.2") as holder:
        told = json.loads(images.command("nbdinfo", "--list", "--json", server.uri()))
        assert told["exports"][0]["is_read_only"]
        assert may_write(holder)
