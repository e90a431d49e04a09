"""The servers that are compared: how each is started on an image, and ended by its pid.

A Server object describes one; start() gives a Running that must be stopped. All listen on a Unix
socket in the bench's own folder or on a loopback port.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import select
import signal
import socket
import subprocess
import time

from runner import machine

STOP_SECONDS = 20
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
INTERRUPTIONS = (signal.SIGTERM, signal.SIGINT)

libc = ctypes.CDLL(None)
numbers = itertools.count()


class StartError(Exception):
    """A server cannot be measured here; the text says why."""


def adopt_orphans():
    """Daemons of the servers become children of ours, so that their end can be waited for."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


@contextlib.contextmanager
def uninterrupted():
    """SIGTERM and Ctrl-C wait until the block is over: between a start and the note to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Endpoint:
    """Where a server is to listen."""

    def __init__(self, folder, transport):
        self.folder = folder
        self.number = next(numbers)
        self.port = free_port() if transport == "tcp" else None
        self.socket_path = None if self.port else folder / f"{self.number}.sock"

    @property
    def address(self):
        return f"127.0.0.1:{self.port}" if self.port else f"unix:{self.socket_path}"


class Running:
    """A server at work."""

    def __init__(self, pid, process, endpoint, export_name, log_path):
        self.pid = pid
        self.process = process  # None for a daemon: then the pid is an adopted child
        self.endpoint = endpoint
        self.export_name = export_name
        self.log_path = log_path

    def stop(self):
        """Asks it to end, and insists after a while."""
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        else:
            stop_adopted(self.pid)
        if self.endpoint.socket_path:
            self.endpoint.socket_path.unlink(missing_ok=True)

    def log(self):
        return self.log_path.read_text(errors="replace").strip()[-2000:]


def stop_adopted(pid):
    """Ends a daemon, then the processes it has forked, which become ours when it is gone."""
    for number in machine.descendants(pid):
        end_process(number)


def end_process(pid):
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        # A pidfd is readable when the process has ended.
        if not select.select([descriptor], [], [], STOP_SECONDS)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [])
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # its parent was faster to take note
    finally:
        os.close(descriptor)


class Server:
    """One way to serve an image. `command` makes the arguments from an endpoint and an image."""

    def __init__(self, name, program, command, export_name="", is_ours=False, limited=()):
        self.name = name
        self.program = program
        self.command = command
        self.export_name = export_name
        self.is_ours = is_ours
        self.limited = tuple(limited)  # further arguments under a memory limit

    def start(self, folder, image, transport="unix", cgroup=None):
        endpoint = Endpoint(folder, transport)
        log_path = folder / f"{endpoint.number}.log"

        def in_child():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if cgroup:
                cgroup.enter_from_child()

        arguments = [
            str(self.program),
            *self.command(endpoint, image),
            *(self.limited if cgroup else ()),
        ]
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=in_child
            )
        return self.started(process, endpoint, log_path)

    def started(self, process, endpoint, log_path):
        return Running(process.pid, process, endpoint, self.export_name, log_path)


class NbdServer(Server):
    """nbd-server: a configuration file, and a daemon that forks for each client."""

    def __init__(self):
        super().__init__("nbd-server", "nbd-server", self.configure, export_name="disk")

    @staticmethod
    def configure(endpoint, image):
        base = endpoint.folder / str(endpoint.number)
        where = (
            f"port = {endpoint.port}\nlistenaddr = 127.0.0.1"
            if endpoint.port
            else f"unixsock = {endpoint.socket_path}"
        )
        base.with_suffix(".conf").write_text(
            f"[generic]\n{where}\n[disk]\nexportname = {image}\n"
            "flush = true\nfua = true\ntrim = true\n"
        )
        return ["-C", str(base.with_suffix(".conf")), "-p", str(base.with_suffix(".pid"))]

    def started(self, process, endpoint, log_path):
        if process.wait() != 0:
            raise StartError(f"nbd-server does not start: {log_path.read_text(errors='replace')}")
        pid_path = endpoint.folder / f"{endpoint.number}.pid"
        deadline = time.monotonic() + STOP_SECONDS
        # The starter returns before the daemon has written its pid.
        while not (pid_path.exists() and pid_path.read_text().strip().isdigit()):
            if time.monotonic() > deadline:
                raise StartError("nbd-server has written no pid file")
            os.sched_yield()
        return Running(int(pid_path.read_text()), None, endpoint, self.export_name, log_path)


def loopnbd(name, binary, direct_io, *arguments):
    def command(endpoint, image):
        # Room for the 1,000 idle connections beside those that work.
        limit = ["--max-connections", "2000"]
        flags = [*limit, "--direct-io", direct_io, *arguments]
        return ["serve", "--listen", endpoint.address, *flags, str(image)]

    return Server(name, binary, command, is_ours=True, limited=["--memory", "32M"])


def nbdkit(name, *parameters):
    def command(endpoint, image):
        where = (
            ["-i", "127.0.0.1", "-p", str(endpoint.port)]
            if endpoint.port
            else ["-U", str(endpoint.socket_path)]
        )
        return ["-f", *where, "file", str(image), *parameters]

    return Server(name, "nbdkit", command)


def qemu_nbd(name, aio):
    def command(endpoint, image):
        where = (
            ["-b", "127.0.0.1", "-p", str(endpoint.port)]
            if endpoint.port
            else ["-k", str(endpoint.socket_path)]
        )
        return [
            "-f",
            "raw",
            "--cache=none",
            f"--aio={aio}",
            "--discard=unmap",
            "--persistent",
            "--shared=0",
            *where,
            str(image),
        ]

    return Server(name, "qemu-nbd", command)


def bare(binary):
    """The design without the product; Unix sockets only."""
    return Server(
        "bare", binary, lambda endpoint, image: [str(image), str(endpoint.socket_path)]
    )


def all_servers(folder):
    """In the order of the report's columns; `folder` holds the programs that were built."""
    binary = folder / "loopnbd"
    return [
        loopnbd("loopnbd", binary, "on"),
        loopnbd("loopnbd-buffered", binary, "off"),
        loopnbd("loopnbd-busy-poll", binary, "on", "--busy-poll-us", "20"),
        loopnbd("loopnbd-awake", binary, "on", "--wake-latency-us", "0"),
        bare(folder / "loopnbd_bare_server"),
        nbdkit("nbdkit"),
        nbdkit("nbdkit-nocache", "cache=none"),
        qemu_nbd("qemu-native", "native"),
        qemu_nbd("qemu-io_uring", "io_uring"),
        NbdServer(),
    ]


class LoopDevice:
    """The kernel's loop driver on an image, as a context: the path of the device."""

    def __init__(self, image, direct):
        self.image = image
        self.direct = direct
        self.path = None

    def __enter__(self):
        done = subprocess.run(
            [
                "losetup",
                "--find",
                "--show",
                f"--direct-io={'on' if self.direct else 'off'}",
                str(self.image),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StartError(f"no loop device: {done.stderr.strip()}")
        self.path = done.stdout.strip()
        mode = (
            pathlib.Path("/sys/block", pathlib.Path(self.path).name, "loop/dio").read_text().strip()
        )
        if self.direct and mode != "1":
            self.__exit__()
            raise StartError("the loop driver refuses direct I/O on this file")
        return self.path

    def __exit__(self, *_):
        subprocess.run(["losetup", "-d", self.path], check=True)
