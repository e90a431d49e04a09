"""Watchers of the server in the tests: an HTTP client for its endpoints, a thread that is made to
hang, the socket of a service manager.
"""

import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import socket
import threading

from support.server import WAIT_SECONDS, free_port, is_listening

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WAIT_ALL_THREADS = 0x40000000  # __WALL: of waitpid(), for threads of others


class UnixHttp(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_SECONDS)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_SECONDS)
        self.sock.connect(self.path)


class Watched:
    """A server that listens for HTTP, too. `address` is (host, port) or a Unix socket's path."""

    def __init__(self, server, address):
        self.server = server
        self.address = address
        server.wait_until(lambda: is_listening(address), f"HTTP at {address}")

    def connection(self):
        if isinstance(self.address, str):
            return UnixHttp(self.address)
        return http.client.HTTPConnection(*self.address, timeout=WAIT_SECONDS)

    def socket(self):
        if isinstance(self.address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(WAIT_SECONDS)
            connection.connect(self.address)
            return connection
        return socket.create_connection(self.address, WAIT_SECONDS)

    def get(self, path, method="GET", **headers):
        """(status, headers, body as text)."""
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read().decode()

    def metrics(self):
        """{name and labels as Prometheus writes them: value}, labels sorted by name."""
        status, _, text = self.get("/metrics")
        assert status == 200, text
        return parse_metrics(text)

    def status(self):
        code, _, text = self.get("/status.json")
        assert code == 200, text
        return json.loads(text)


def parse_metrics(text):
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            pairs = sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
            key = name + "".join(f",{label}={content}" for label, content in pairs)
            assert key not in found, f"{key} twice"
            found[key] = float(value)
    return found


def watch(serve, *arguments, **more):
    """A server started by the `serve` fixture, watched on a loopback port."""
    port = free_port()
    return Watched(serve("--http", f"127.0.0.1:{port}", *arguments, **more), ("127.0.0.1", port))


def workers_of(server):
    """The thread ids of the workers, in their order."""
    found = []
    for thread in pathlib.Path(f"/proc/{server.pid}/task").iterdir():
        name = (thread / "comm").read_text().strip()
        if name.startswith("worker "):
            found.append((name, int(thread.name)))
    return [thread for _, thread in sorted(found)]


@contextlib.contextmanager
def hanging(thread):
    """The thread does not run. Only for the duration, and only that one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def trace(request):
        result = libc.ptrace(request, thread, None, None)
        assert result == 0, f"ptrace: {os.strerror(ctypes.get_errno())}"

    trace(PTRACE_SEIZE)
    trace(PTRACE_INTERRUPT)
    os.waitpid(thread, WAIT_ALL_THREADS)
    try:
        yield
    finally:
        trace(PTRACE_DETACH)


class NotifySocket:
    """Where a service manager listens (sd_notify(3)). A context manager."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._messages = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RD)
        self._reader.join(WAIT_SECONDS)
        self._socket.close()

    def _read(self):
        while message := self._socket.recv(4096):
            with self._news:
                self._messages.append(message.decode().splitlines())
                self._news.notify_all()

    def messages(self):
        with self._news:
            return [*self._messages]

    def wait_for(self, pattern, after=0, seconds=WAIT_SECONDS):
        """The number of the first message from `after` on with a line that matches; None when
        there is none in time.
        """

        def find():
            for number, lines in enumerate(self._messages[after:], after):
                if any(re.fullmatch(pattern, line) for line in lines):
                    return number + 1
            return 0

        with self._news:
            found = self._news.wait_for(find, seconds)
        return found - 1 if found else None
