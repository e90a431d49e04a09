"""The protocol of systemd's service manager: ready, status, stopping, and the watchdog."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess

from support.server import is_listening
from support.watching import NotifySocket, hanging, workers_of


def test_ready_is_said_when_it_listens_and_stopping_when_it_ends(serve, image, tmp_path):
    with NotifySocket(tmp_path / "notify") as manager:
        server = serve(image, env={"NOTIFY_SOCKET": manager.path})
        ready = manager.wait_for("READY=1")
        assert ready == 0 and is_listening(server.address)
        status = manager.wait_for("STATUS=1 export, 0 of 1000 connections, .*")
        assert status is not None
        server.stop()
        stopping = manager.wait_for("STOPPING=1")
        assert stopping is not None and stopping > status


def test_a_reload_is_announced_and_its_end_whether_or_not_it_succeeds(serve, image, tmp_path):
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[[export]]\npath = "{image}"\n')
    with NotifySocket(tmp_path / "notify") as manager:
        server = serve("--config", config, env={"NOTIFY_SOCKET": manager.path})
        before = manager.wait_for("READY=1")
        for text in config.read_text(), "nonsense":
            config.write_text(text)
            server.signal(signal.SIGHUP)
            begun = manager.wait_for("RELOADING=1", after=before + 1)
            assert begun is not None
            assert re.fullmatch(r"MONOTONIC_USEC=\d+", manager.messages()[begun][1])
            before = manager.wait_for("READY=1", after=begun + 1)
            assert before is not None


def test_the_watchdog_is_fed_while_workers_respond_and_only_then(serve, image, tmp_path):
    with NotifySocket(tmp_path / "notify") as manager:
        server = serve(
            "--workers", "2", image, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "2000000"}
        )
        first = manager.wait_for("WATCHDOG=1")
        assert manager.wait_for("WATCHDOG=1", after=first + 1) is not None
        with hanging(workers_of(server)[0]):
            server.wait_for_log("not every worker responds; the service manager's watchdog")
            count = len(manager.messages())
            assert manager.wait_for("WATCHDOG=1", after=count, seconds=3) is None
            count = len(manager.messages())
        assert manager.wait_for("WATCHDOG=1", after=count) is not None


def test_a_watchdog_for_another_process_is_not_fed(serve, image, tmp_path):
    with NotifySocket(tmp_path / "notify") as manager:
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
        serve(image, env=environ)
        assert manager.wait_for("STATUS=.*") is not None
        assert manager.wait_for("WATCHDOG=1", seconds=2) is None


def test_a_manager_that_has_gone_does_no_harm(serve, image, tmp_path):
    server = serve(image, env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    server.wait_for_log("cannot notify the service manager")
    with server.client() as client:
        assert client.read(0, 512)


def test_a_manager_that_does_not_read_is_not_waited_for(serve, image, tmp_path):
    path = str(tmp_path / "notify")
    manager, other = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    with manager, other:
        manager.bind(path)
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"STATUS=full", path)
        server = serve(image, env={"NOTIFY_SOCKET": path})
        server.wait_for_log("cannot notify .*: Resource temporarily unavailable")
        with server.client() as client:
            assert client.read(0, 512)
        server.stop()


def test_what_systemd_itself_sends_and_we_send_is_understood_alike(serve, image, tmp_path):
    """systemd-notify is the reference: the same words in the same form."""
    tool = shutil.which("systemd-notify")
    assert tool, "systemd-notify is missing (package systemd)"
    with NotifySocket(tmp_path / "notify") as manager:
        environ = {**os.environ, "NOTIFY_SOCKET": manager.path}
        subprocess.run([tool, "--ready"], env=environ, check=True)
        reference = manager.wait_for("READY=1")
        server = serve(image, env={"NOTIFY_SOCKET": manager.path})
        ours = manager.wait_for("READY=1", after=reference + 1)
        assert set(manager.messages()[ours]) <= set(manager.messages()[reference])
        server.signal(signal.SIGINT)
        server.wait(0)
