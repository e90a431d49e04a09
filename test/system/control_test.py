"""The control socket and `loopnbd ctl`: looking, exports that come and go, clients sent away."""

import json
import os
import pty
import select
import signal
import stat
import threading

import pytest

from support import images, nbd_client, server as servers
from support.configuration import Configuration, export
from support.control import Control
from support.nbd_client import (
    OPT_GO,
    REP_ERR_TLS_REQD,
    REP_ERR_UNKNOWN,
    Disconnected,
    go_payload,
)
from support.watching import watch

MIB = images.MIB


@pytest.fixture
def control(tmp_path):
    return Control(tmp_path / "control.sock")


def test_the_status_says_what_is_served_and_to_whom(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client("disk.img") as client:
        client.write(0, b"x" * 4096)
        client.read(0, 8192)
        status = control.json("status")
        (exported,) = status["exports"]
        assert exported["name"] == "disk.img"
        assert exported["size_bytes"] == 4 * MIB
        assert exported["connections"] == 1
        moved = {entry["command"]: entry["bytes"] for entry in exported["commands"]}
        assert moved == {"READ": 8192, "WRITE": 4096}
        (connection,) = status["connections"]
        assert connection["bytes_written"] == 4096
        assert connection["export"] == "disk.img"
        text = control.text("status")
        assert 'export "disk.img"' in text and "1 connection\n" in text
        listed = control.text("connections")
        assert connection["peer"] in listed and "4 KiB" in listed
    server.stop()


def test_the_status_is_the_same_over_http_and_by_ctl(serve, control, image):
    watched = watch(serve, "--control", control.path, image)

    def without_time(status):
        """Time goes on between two questions, and so do the workers' turns."""
        workers = [{**worker, "turns": 0} for worker in status["workers"]]
        return {**status, "uptime_ms": 0, "workers": workers}

    with watched.server.client() as client:
        client.read(0, 4096)
        control.text("limit", "disk.img", "--write-iops", "500")
        control.text("pause", "disk.img")
        told = control.json("status")
        (exported,) = told["exports"]
        assert exported["paused"] and exported["limits"]["write_iops"] == 500
        assert "PAUSED" in control.text("status")
        (connection,) = told["connections"]
        by_http = watched.status()
        by_http["connections"][0]["age_ms"] = connection["age_ms"]
        assert without_time(by_http) == without_time(told)
        control.text("resume", "disk.img")
    watched.server.stop()


def test_the_control_socket_is_private_and_goes_with_the_server(serve, control, image):
    server = serve("--control", control.path, image)
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
    server.stop()
    assert not os.path.exists(control.path)


def test_ctl_says_what_to_do_when_there_is_no_server(tmp_path):
    done = servers.run("ctl", "--socket", tmp_path / "nobody.sock", "status")
    assert done.returncode == 1
    assert "No such file" in done.stderr and "is it running" in done.stderr


def test_requests_that_are_none_are_refused_and_the_socket_lives_on(serve, control, image):
    server = serve("--control", control.path, image)
    with control.connect() as connection:
        lines = connection.makefile("rb")
        for request in (b"nonsense", b"{}", b'{"command": "dance"}', b'{"command": "add", "x": 1}'):
            connection.sendall(request + b"\n")
            reply = json.loads(lines.readline())
            assert reply["ok"] is False and reply["error"], request
        connection.sendall(b'{"command": "status"}\n')
        assert json.loads(lines.readline())["ok"] is True
    with control.connect() as connection:
        connection.sendall(b"x" * 70000)
        assert b"at most 65536 bytes" in connection.makefile("rb").read()
    assert control.json("status")["exports"]
    server.stop()


def test_an_export_is_added_and_removed(serve, control, image, tmp_path):
    another = images.make_image(tmp_path / "another.img", MIB)
    server = serve("--control", control.path, image)
    control.text("add", f"new={another}", "--read-only", "--offset", "4K")
    with server.client("new") as client:
        assert client.size == MIB - 4096
        assert client.read(0, 100) == another.read_bytes()[4096:4196]
    control.text("remove", "new")
    with nbd_client.Client(server.connect()) as client:
        client.greet()
        assert client.option_type(OPT_GO, go_payload("new")) == REP_ERR_UNKNOWN
    assert "no export" in control.refusal("remove", "new")
    assert "No such file" in control.refusal("add", tmp_path / "missing.img")
    assert "two exports" in control.refusal("add", f"disk.img={another}")
    assert "locked" in control.refusal("add", f"twice={image}")
    server.stop()


@pytest.mark.parametrize("rule", [{"tls": "require"}, {"allow": ["psk:alice"]}])
def test_an_export_is_added_beside_one_that_is_only_for_clients_with_tls(
    serve, control, image, tmp_path, rule
):
    another = images.make_image(tmp_path / "another.img", MIB)
    keys = tmp_path / "keys.psk"
    keys.write_text(f"alice:{'5a' * 16}\n")
    keys.chmod(0o600)
    head = f'[control]\nsocket = "{control.path}"\n[tls]\nmode = "allow"\npsk_file = "{keys}"\n'
    configuration = Configuration(
        tmp_path / "loopnbd.toml", export("secret", image, **rule), head=head
    )
    server = serve("--config", configuration.path)
    control.text("add", f"new={another}")
    with server.client("new") as client:
        assert client.size == MIB
    # The rules are held against the TLS of the server as it is now, not as it began.
    configuration.head = head.split("[tls]")[0]
    configuration.reload(server, export("open", image))
    configuration.head = head
    outcome = configuration.reload(server, export("secret", image, **rule))
    assert "added: secret" in outcome, outcome
    control.text("add", f"new={another}")
    server.stop()


def test_an_export_is_added_with_all_that_a_file_can_say(serve, control, image, tmp_path):
    another = images.make_image(tmp_path / "another.img", MIB)
    keys = tmp_path / "keys.psk"
    keys.write_text(f"alice:{'5a' * 16}\n")
    keys.chmod(0o600)
    server = serve("--control", control.path, "--tls", "allow", "--tls-psk-file", keys, image)
    me = f"uid:{os.getuid()}"
    control.text(
        *("add", f"new={another}", "--description", "a few words", "--no-lock"),
        *("--allow", me, "--allow", "psk:alice", "--read-only-for", me, "--writers", "3"),
        *("--read-iops", "5000", "--client-write-bytes", "1M", "--client-burst-seconds", "2"),
    )
    exported = control.export("new")
    assert exported["description"] == "a few words"
    assert exported["limits"]["read_iops"] == 5000
    assert exported["client_limits"]["write_bytes"] == MIB
    assert exported["client_limits"]["burst_seconds"] == 2
    with server.client("new") as client:
        assert client.transmission_flags & 2, "not read-only"
    control.text("add", f"others={another}", "--no-lock", "--allow", f"uid:{os.getuid() + 1}")
    control.text("add", f"secret={another}", "--no-lock", "--export-tls", "require")
    for name, refusal in (("others", REP_ERR_UNKNOWN), ("secret", REP_ERR_TLS_REQD)):
        with nbd_client.Client(server.connect()) as client:
            client.greet()
            assert client.option_type(OPT_GO, go_payload(name)) == refusal
    assert "client_ca" in control.refusal("add", f"x={another}", "--allow", "cert:CN=a")
    assert "beyond its prefix" in control.refusal("add", f"x={another}", "--allow", "10.0.0.1/8")
    assert "partition" in control.refusal("add", f"x={another}", "--no-lock", "--partition", "1")
    server.stop()


@pytest.mark.parametrize("how", ["--drain", "--now"])
def test_removing_an_export_ends_its_connections(serve, control, image, how):
    server = serve("--control", control.path, image)
    client = server.client("disk.img")
    client.write(0, b"w" * 5000)
    control.text("remove", "disk.img", how)
    assert client.is_closed()
    server.wait_until(lambda: not images.is_locked(image), "closing of the file")
    control.text("add", image)
    with server.client("disk.img") as again:
        assert again.read(0, 5000) == b"w" * 5000
    server.stop()


@pytest.mark.workers
def test_a_file_changes_its_offset_under_writing_clients_when_they_are_drained(
    serve, control, tmp_path
):
    """All that was acknowledged before the drain is there; nothing of it comes later."""
    disk = images.make_sparse_image(tmp_path / "disk.img", 8 * MIB)
    head = f'workers = 3\n[control]\nsocket = "{control.path}"\n'
    configuration = Configuration(tmp_path / "loopnbd.toml", export("a", disk), head=head)
    server = serve("--config", configuration.path)
    acknowledged = [0] * 4

    def write(number):
        client = server.client("a")
        try:
            for generation in range(1, 100000):
                client.write(number * MIB, bytes([generation % 256]) * 8192)
                acknowledged[number] = generation
        except (Disconnected, OSError):
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    server.wait_until(lambda: min(acknowledged) > 20, "writing")
    configuration.write(export("a", disk, offset=4096))
    assert "still on it" in control.refusal("reload")
    assert control.json("reload", "--drain")["changed"] == ["a"]
    for thread in threads:
        thread.join(servers.WAIT_SECONDS)
        assert not thread.is_alive()
    with server.client("a") as client:
        assert client.size == 8 * MIB - 4096
        for number in range(4):
            found = client.read(number * MIB - 4096 if number else 0, 4096)
            expected = acknowledged[number] % 256
            assert found[0] in (expected, (expected + 1) % 256) and found == found[:1] * 4096
    server.stop()


def test_a_connection_is_disconnected_by_its_number_and_others_stay(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as staying, server.client() as leaving:
        leaving.write(0, b"l" * 100)
        (number,) = (
            entry["id"]
            for entry in control.json("connections")["connections"]
            if entry["bytes_written"] == 100
        )
        control.text("disconnect", number)
        assert leaving.is_closed()
        assert staying.read(0, 100) == b"l" * 100
        assert "no connection" in control.refusal("disconnect", number)
        control.text("disconnect", "--export", "disk.img")
        assert staying.is_closed()
    server.stop()


def test_clients_of_the_old_form_of_an_export_are_disconnected_with_it(
    serve, control, tmp_path, image
):
    head = f'[control]\nsocket = "{control.path}"\n'
    configuration = Configuration(tmp_path / "loopnbd.toml", export("a", image), head=head)
    server = serve("--config", configuration.path)
    with server.client("a") as old:
        configuration.write(export("a", image, description="words"))
        control.text("reload")
        with server.client("a") as new:
            assert control.json("disconnect", "--export", "a")["count"] == 2
            assert old.is_closed() and new.is_closed()
    assert "no export" in control.refusal("disconnect", "--export", "b")
    server.stop()


def test_draining_an_export_lets_clients_finish_and_come_back(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        client.write(0, b"d" * 100)
        assert "1 connection was told" in control.text("drain", "disk.img")
        assert client.is_closed()
    with server.client() as client:
        assert client.read(0, 100) == b"d" * 100
    server.stop()


def test_drain_ends_the_server_as_sigterm_does(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        client.write(0, b"e" * 100)
        control.text("drain")
        assert client.is_closed()
    assert "ended" in server.wait()
    assert image.read_bytes()[:100] == b"e" * 100


def test_a_sigterm_after_drain_does_not_cut_it_short(serve, control, tmp_path):
    """As Kubernetes does it: preStop, and then the signal, while a client takes its time."""
    big = images.make_image(tmp_path / "big.img", 8 * MIB)
    server = serve("--control", control.path, big)
    with server.client() as client:
        client.leave_replies_unread()
        control.text("drain")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Terminated: finishing what is in flight")
        replies = 0
        try:
            while client.chunk().error == 0:
                replies += 1
        except Disconnected as closed:
            assert str(closed).startswith("after 0 "), "a reply was cut short"
        assert replies > 0
        server.wait(0)


def test_the_log_level_changes_while_it_runs(serve, control, image):
    server = serve("--control", control.path, image)
    control.text("log-level", "debug")
    server.client().close()
    server.wait_for_log("debug: .*connected")
    server.stop()


def test_a_reload_says_what_it_has_done_and_a_bad_one_why_not(serve, control, tmp_path, image):
    head = f'[control]\nsocket = "{control.path}"\n'
    configuration = Configuration(tmp_path / "loopnbd.toml", export("a", image), head=head)
    server = serve("--config", configuration.path)
    configuration.write(export("a", image, description="words"))
    assert control.json("reload")["changed"] == ["a"]
    configuration.write(export("a", image, what=1))
    assert "unknown key" in control.refusal("reload")
    server.stop()


def read_screen(descriptor, until):
    """The screen that a program draws on its terminal, up to a sign."""
    screen = ""
    while until not in screen:
        assert select.select([descriptor], [], [], servers.WAIT_SECONDS)[0], screen
        screen += os.read(descriptor, 65536).decode(errors="replace")
    return screen


def test_top_shows_exports_and_clients_in_a_terminal(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        client.write(0, b"t" * 4096)
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(servers.environment())
            os.execv(
                servers.binary(),
                [
                    *[servers.binary(), "ctl", "--socket", control.path],
                    *["top", "--interval", "0.2", "--count", "1"],
                ],
            )
        screen = read_screen(terminal, "user ")
        assert "\x1b[2J" in screen and "disk.img" in screen and "writes/s" in screen
        assert os.waitpid(pid, 0)[1] == 0
        os.close(terminal)
    server.stop()
