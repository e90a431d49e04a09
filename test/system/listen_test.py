"""The ways in: TCP, IPv6, Unix sockets, sockets passed by systemd, standard input and output."""

import os
import re
import shlex
import socket
import stat
import subprocess

import nbd
import pytest

from support import images, nbd_client, server
from support.configuration import Configuration, export
from support.server import WAIT_SECONDS, Server, binary, environment


def test_the_default_is_loopback_port_10809(image):
    if server.is_listening(("127.0.0.1", 10809)):
        pytest.skip("somebody else listens on port 10809")
    running = Server([image], ("127.0.0.1", 10809)).wait_until_listening()
    with running.client() as client:
        assert client.read(0, 512) == image.read_bytes()[:512]
    hexadecimal = "%04X" % 10809
    with open("/proc/net/tcp", encoding="ascii") as table:
        listeners = [
            row.split()[1]
            for row in table
            if row.split()[3] == "0A" and hexadecimal in row.split()[1]
        ]
    assert listeners == [f"0100007F:{hexadecimal}"]
    running.stop()


def test_ipv6_is_served(serve, image):
    running = serve(image, listen="tcp6")
    with running.client() as client:
        assert client.read(0, 4096) == image.read_bytes()[:4096]
    assert images.command("nbdinfo", "--size", running.uri()).strip() == str(4 << 20)


def test_several_addresses_are_served_at_once(tmp_path, image):
    port = server.free_port()
    path = str(tmp_path / "nbd.sock")
    running = Server(["--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}", image], path)
    running.wait_until_listening().wait_until(
        lambda: server.is_listening(("127.0.0.1", port)), "the port"
    )
    for address in (path, ("127.0.0.1", port)):
        running.address = address
        with running.client() as client:
            assert client.read(0, 512) == image.read_bytes()[:512]
    running.stop()


def test_a_host_name_is_resolved(image):
    port = server.free_port()
    running = Server(
        ["--listen", f"localhost:{port}", image], ("localhost", port)
    ).wait_until_listening()
    with running.client() as client:
        assert client.size == 4 << 20
    running.stop()


def test_a_stale_unix_socket_is_replaced_and_removed_at_exit(serve, image, tmp_path):
    path = str(tmp_path / "stale.sock")
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(path)
    running = Server(["--listen", f"unix:{path}", image], path).wait_until_listening()
    with running.client() as client:
        assert client.read(0, 512)
    running.stop()
    assert not os.path.exists(path)


def test_a_unix_socket_in_use_is_left_alone(serve, image, tmp_path):
    first = serve(image)
    other = images.make_image(tmp_path / "other.img", 512)
    result = server.run("serve", "--listen", f"unix:{first.address}", other)
    assert result.returncode > 0 and first.address in result.stderr
    with first.client() as client:
        assert client.size == 4 << 20


def test_a_file_that_is_no_socket_is_left_alone(image, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("do not delete")
    result = server.run("serve", "--listen", f"unix:{precious}", image)
    assert result.returncode > 0 and str(precious) in result.stderr
    assert precious.read_text() == "do not delete"


def test_a_killed_server_can_be_started_again_at_once(serve, image):
    first = serve(image, listen="tcp")
    client = first.client()
    first.kill()
    client.close()
    second = Server(["--listen", "127.0.0.1:%d" % first.address[1], image], first.address)
    with second.wait_until_listening().client() as client:
        assert client.size
    second.stop()


def socket_activated(sockets, arguments):
    """A server started by a shell that sets LISTEN_PID to its own process id and becomes
    loopnbd.
    """
    for target, listener in enumerate(sockets, 3):
        assert listener.fileno() > 10, "dup2 must not overwrite what is still to be copied"
        assert target < 10

    def prepare():
        server.die_with_parent()
        for target, listener in enumerate(sockets, 3):
            os.dup2(listener.fileno(), target)

    return subprocess.Popen(
        [
            "sh",
            "-c",
            f'LISTEN_FDS={len(sockets)} LISTEN_PID=$$ exec "$@"',
            "sh",
            binary(),
            "serve",
            *arguments,
        ],
        env=environment(),
        preexec_fn=prepare,
        close_fds=False,
        stderr=subprocess.PIPE,
        text=True,
    )


def high(listener):
    """The same socket with a descriptor above those that are passed."""
    listener.listen()
    copy = os.dup(listener.fileno())
    while copy <= 10:
        copy = os.dup(copy)
    return socket.socket(fileno=copy)


def test_sockets_passed_by_systemd_are_served(tmp_path, image):
    path = str(tmp_path / "passed.sock")
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    tcp = socket.create_server(("127.0.0.1", 0))
    process = socket_activated([high(unix), high(tcp)], [image])
    for address in (path, tcp.getsockname()):
        connection = socket.socket(socket.AF_UNIX if address == path else socket.AF_INET)
        connection.settimeout(WAIT_SECONDS)
        connection.connect(address)
        with nbd_client.Client(connection) as client:
            assert client.start().read(0, 512) == image.read_bytes()[:512]
    process.terminate()
    _, errors = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0 and "Sanitizer" not in errors, errors
    assert os.path.exists(path), "the socket is systemd's, not ours to remove"


def test_listen_fds_meant_for_another_process_are_ignored(tmp_path, image):
    path = str(tmp_path / "own.sock")
    running = Server(
        ["--listen", f"unix:{path}", image], path, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    )
    with running.wait_until_listening().client() as client:
        assert client.size
    running.stop()


def test_systemd_socket_activate_starts_the_server_for_the_first_client(tmp_path, image):
    path = str(tmp_path / "activated.sock")
    process = subprocess.Popen(
        [
            "systemd-socket-activate",
            "-l",
            path,
            *(f"-E{name}" for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")),
            binary(),
            "serve",
            image,
        ],
        env=environment(),
        preexec_fn=server.die_with_parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not server.is_listening(path):
            assert process.poll() is None
        with Server.connect(type("Address", (), {"address": path})) as connection:
            with nbd_client.Client(connection) as client:
                assert client.start().read(0, 512) == image.read_bytes()[:512]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0 and "Sanitizer" not in errors, errors


def test_stdio_serves_one_client_and_ends_with_it(image):
    handle = nbd.NBD()
    handle.connect_command([binary(), "serve", "--stdio", str(image)])
    assert handle.get_size() == 4 << 20
    assert handle.pread(4096, 8192) == image.read_bytes()[8192:12288]
    handle.pwrite(b"hello", 1)
    handle.flush()
    handle.shutdown()
    assert image.read_bytes()[1:6] == b"hello"


def test_stdio_ends_with_status_0_when_its_client_is_gone(image):
    ours, theirs = socket.socketpair()
    ours.settimeout(WAIT_SECONDS)
    running = Server(["--stdio", image], stdin=theirs, stdout=theirs)
    theirs.close()
    with nbd_client.Client(ours) as client:
        assert client.start().read(0, 512) == image.read_bytes()[:512]
    log = running.wait()
    assert "listen" not in log.lower()


def test_a_client_of_stdio_that_is_refused_sees_the_end_at_once(image):
    """Standard input and output are two descriptors of one socket, and only output has ended."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    running = Server(["--stdio", image], stdin=theirs, stdout=theirs)
    theirs.close()
    with nbd_client.Client(ours) as client:
        client.greet()
        client.send(nbd_client.option_message(nbd_client.OPT_EXPORT_NAME, b"nowhere"))
        assert client.is_closed()
    running.wait()


def test_stdio_works_over_a_tcp_socket_as_inetd_passes_it(image):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), WAIT_SECONDS)
        theirs, _ = listener.accept()
    running = Server(["--stdio", image], stdin=theirs, stdout=theirs)
    theirs.close()
    with nbd_client.Client(ours) as client:
        client.start()
        client.write(0, b"x" * 100000)
        client.disconnect()
    running.wait()
    assert image.read_bytes()[:100000] == b"x" * 100000


def test_the_socket_file_is_created_for_its_owner(serve, image):
    """To connect is to write the disk: the mode must not be wider than the umask says."""
    running = serve(image)
    mode = os.stat(running.address).st_mode
    assert stat.S_ISSOCK(mode) and not mode & stat.S_IWOTH


class WithoutIpv6:
    """A network namespace without IPv6, where /etc/hosts names ::1 as localhost all the same."""

    pid = "self"

    def __init__(self, folder):
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")

    def command(self, *arguments):
        script = (
            "ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 &&"
            f' mount --bind {self.hosts} /etc/hosts && exec "$@"'
        )
        return ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *arguments]


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_localhost_is_listened_on_where_there_is_no_ipv6(tmp_path, image):
    running = Server(["--listen", "localhost:10809", image], net=WithoutIpv6(tmp_path))
    running.wait_for_log(r"listening on 127\.0\.0\.1:10809; attach with")
    assert "going on without it" in running.log()
    running.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_an_address_that_no_interface_has_is_refused(tmp_path, image):
    running = Server(["--listen", "[::1]:10809", image], net=WithoutIpv6(tmp_path))
    assert "no interface of this machine has it" in running.wait(status=1)


NAMES = [
    "two words",
    "it's",
    "50%25",
    "what?",
    "#1",
    "\u00fcml\u00e4ut",
    "/opt/ltsp/i386",
    "$HOME",
    "a;b",
]


@pytest.mark.parametrize("listen", ["unix", "tcp"])
@pytest.mark.parametrize("name", NAMES)
def test_printed_commands_can_be_pasted_into_a_shell(tmp_path, image, name, listen):
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    port = server.free_port()
    address = f"unix:{folder}/n b.sock" if listen == "unix" else f"127.0.0.1:{port}"
    configuration = Configuration(tmp_path / "loopnbd.toml", export(name, image))
    running = Server(["--config", configuration.path, "--listen", address])
    running.wait_for_log("qemu-img info [^\n]*\n")
    commands = re.findall(r" info:   ((?:nbd-client|nbdinfo|qemu-img) .*)$", running.log(), re.M)
    assert [command.split()[0] for command in commands] == ["nbd-client", "nbdinfo", "qemu-img"]
    assert name in shlex.split(commands[0]) and shlex.split(commands[0])[-1] == "/dev/nbd0"
    for command in commands[1:]:
        told = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
        )
        assert told.returncode == 0, f"{command}\n{told.stderr}"
        assert "4 MiB" in told.stdout or "4M" in told.stdout, told.stdout
    running.stop()
