"""Starts loopnbd for a test, waits until it listens, and judges how it ended.

A server belongs to the test that started it: stop() asks it to end and checks that it did so
cleanly, kill() takes its life in the middle of its work. Should the test itself be killed, its
servers die with it.
"""

import ctypes
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

from support import nbd_client

WAIT_SECONDS = (
    30  # for anything that should take an instant; generous, for sanitizers on a busy machine
)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def binary():
    """The program under test: $LOOPNBD, or what the dev preset has built."""
    return os.environ.get("LOOPNBD", str(ROOT / "build" / "dev" / "loopnbd"))


def environment(**more):
    """Sanitizers end the program with a status of their own at the first report."""
    return {
        **os.environ,
        "ASAN_OPTIONS": "exitcode=99:detect_leaks=1:detect_stack_use_after_return=1",
        "LSAN_OPTIONS": "exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "exitcode=99:halt_on_error=1:second_deadlock_stack=1",
        **more,
    }


def run(*arguments, timeout=WAIT_SECONDS, **more):
    """Runs the program to its end, for commands that are not meant to stay."""
    return subprocess.run(
        [binary(), *map(str, arguments)],
        env=environment(),
        text=True,
        timeout=timeout,
        capture_output=True,
        check=False,
        **more,
    )


def die_with_parent():
    """In the child: SIGKILL when the parent is gone (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port(host="127.0.0.1"):
    """A port nobody listens on, below those the kernel gives to outgoing connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for step in range(1000):
        port = 11000 + (os.getpid() * 17 + step + free_port.used) % 20000
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        free_port.used += step + 1
        return port
    raise RuntimeError("no free port")


free_port.used = 0


def is_listening(address, pid="self"):
    """Whether somebody listens there; found without connecting, which the server would notice.
    `pid` is a process in the network namespace to look at.
    """
    net = pathlib.Path(f"/proc/{pid}/net")
    if isinstance(address, str):
        rows = (net / "unix").read_text().splitlines()[1:]
        return any(row.split()[3] == "00010000" and row.endswith(" " + address) for row in rows)
    rows = []
    for table in ("tcp", "tcp6"):
        rows += (net / table).read_text().splitlines()[1:]
    return any(
        row.split()[3] == "0A" and int(row.split()[1].rsplit(":", 1)[1], 16) == address[1]
        for row in rows
    )


def connect(address):
    """A connected socket, not a byte sent or received. `address` as in Server."""
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WAIT_SECONDS)
        connection.connect(address)
        return connection
    return socket.create_connection(address, WAIT_SECONDS)


class Server:
    """One running `loopnbd serve`. `address` is a Unix socket's path or (host, port); `net`, where
    there is one, the network namespace it runs in (test/vm/rig/network.py).
    """

    def __init__(self, arguments, address=None, net=None, **popen):
        self.address = address
        self._namespace_pid = net.pid if net else "self"
        command = [binary(), "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            net.command(*command) if net else command,
            env=environment(**popen.pop("env", {})),
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **popen},
        )
        self.pid = self.process.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._text = ""
        self._news = threading.Condition()
        self._ended = False  # the test has seen to its end
        self._readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (self.process.stdout, self.process.stderr)
            if pipe and (pipe is self.process.stderr or "stdout" not in popen)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe):
        for line in pipe:
            with self._news:
                self._text += line.decode(errors="replace")
                self._news.notify_all()

    def has_ended(self, within_seconds=0.0):
        return bool(select.select([self._pidfd], [], [], within_seconds)[0])

    def wait_until(self, condition, what="the condition", seconds=WAIT_SECONDS):
        """Waits for what the operating system shows; fails when the server ends or time runs
        out.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if self.has_ended(within_seconds=0.01) and not condition():
                raise AssertionError(f"the server ended before {what}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} in {seconds} s:\n{self.log()}")
        return self

    def wait_until_listening(self):
        return self.wait_until(
            lambda: is_listening(self.address, self._namespace_pid), f"listening at {self.address}"
        )

    def log(self):
        """Its output so far on stdout and stderr."""
        with self._news:
            return self._text

    def wait_for_log(self, pattern):
        with self._news:
            found = self._news.wait_for(lambda: re.search(pattern, self._text), WAIT_SECONDS)
            assert found, f"no '{pattern}' in the log:\n{self._text}"
            return found

    def output(self):
        """All it has ever said; waits for its end."""
        self.process.wait(WAIT_SECONDS)
        for reader in self._readers:
            reader.join(WAIT_SECONDS)
        return self.log()

    def uri(self, export_name=""):
        name = urllib.parse.quote(export_name)
        if isinstance(self.address, str):
            return f"nbd+unix:///{name}?socket={self.address}"
        host, port = self.address
        return f"nbd://[{host}]:{port}/{name}" if ":" in host else f"nbd://{host}:{port}/{name}"

    def connect(self):
        return connect(self.address)

    def client(self, export_name="", **options):
        """A client in the transmission phase; `options` as in nbd_client.Client.start()."""
        return nbd_client.Client(self.connect()).start(export_name, **options)

    def file_count(self):
        """How many files and sockets it holds open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def signal(self, number):
        signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, status=0, seconds=WAIT_SECONDS):
        """Waits for its end and checks the exit status, and that no sanitizer had anything to
        say.
        """
        self._ended = True
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.output()}") from None
        output = self.output()
        assert "Sanitizer" not in output and "runtime error" not in output, output
        assert self.process.returncode == status, f"status {self.process.returncode}:\n{output}"
        return output

    def stop(self):
        """SIGTERM; it must end with status 0. Returns all it has said."""
        if not self._ended:
            if not self.has_ended():
                self.signal(signal.SIGTERM)
            return self.wait()
        return self.output()

    def kill(self):
        """As a power failure of the process: no chance to finish anything."""
        self._ended = True
        self.process.kill()
        self.process.wait(WAIT_SECONDS)
