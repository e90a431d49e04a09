"""A guest: a machine of its own that runs a script, or what a test tells it step by step.

    with guest.Guest() as machine:
        machine.run("modprobe nbd max_part=8")
        machine.power_off()              # without a warning, as by the plug

A guest always ends: with its test's process, after LIFE_SECONDS at the latest.
"""

import base64
import contextlib
import dataclasses
import pathlib
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time

from support import releases

from . import job, network, root

BOOT_SECONDS = 120  # 3 or 8 when the machine is idle
LIFE_SECONDS = 900
MIB = 1 << 20
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclasses.dataclass
class Result:
    """How a script in the guest ended."""

    status: int
    stdout: str
    stderr: str


class GuestFailed(AssertionError):
    """It did not boot, did not answer in time, or a script in it failed."""


class Guest:
    """`kernel` is "uml" (User-mode Linux: one processor, fast with data), "newer-uml" (the same of
    Debian 13) or "qemu" (emulated: any number of processors, fast with system calls). `disk` is a
    file to be its second disk, otherwise that is an empty one of `disk_mib`; the guest's scripts
    know it as $DISK. `script` is what it runs before it powers itself off; without one it does what
    run() says. With `systemd` it does so as a service, and systemctl powers it off.
    """

    def __init__(
        self,
        kernel="uml",
        processors=1,
        memory_mib=512,
        net=None,
        disk=None,
        disk_mib=1024,
        script=None,
        files=(),
        programs=None,
        systemd=False,
        life_seconds=LIFE_SECONDS,
    ):
        if kernel != "qemu" and processors != 1:
            raise ValueError("User-mode Linux has one processor; take kernel='qemu' for more")
        image = root.folder()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="loopnbd-guest-"))
        self.host = self.folder / "host"  # what the guest has as /host
        job.fill(self.host, script or root.VM / "agent", files, programs)
        self._disk = disk or self.folder / "disk.img"
        if not disk:
            with open(self._disk, "wb") as file:
                file.truncate(disk_mib * MIB)
        self._number = 0
        self._line = b""
        self._console_text = b""
        self._control, theirs = socket.socketpair()
        make = {"uml": self._uml, "newer-uml": self._newer_uml, "qemu": self._qemu}[kernel]
        words = ["under=systemd"] if systemd else []
        words += [f"ip4={network.GUEST_ADDRESS}"] if net else []
        command = make(image, theirs.fileno(), processors, memory_mib, net, words)
        self.process = subprocess.Popen(
            self._contained(command, memory_mib, net, life_seconds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._console = threading.Thread(target=self._read_console, daemon=True)
        self._console.start()
        if not script:
            try:
                self._receive(BOOT_SECONDS, "booting")
            except GuestFailed:
                self.close()
                raise

    def _contained(self, command, memory_mib, net, life_seconds):
        """All of a guest's processes in a process namespace, which ends as one: when its first
        process ends, when this process does, and after `life_seconds`.
        """
        script = """
            mount -t tmpfs -o mode=700,size="$1" tmpfs "$2/memory" || exit
            export TMPDIR="$2/memory" limit=$3
            shift 3
            exec timeout --signal=KILL "$limit" "$@" """
        (self.folder / "memory").mkdir()
        contained = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid"]
        contained += ["--fork", "--kill-child", "--", "bash", "-c", script, "guest"]
        contained += [f"{memory_mib + 64}m", str(self.folder), str(life_seconds), *command]
        return net.command(*contained) if net else contained

    def _read_console(self):
        for line in self.process.stdout:
            self._console_text += line

    def _uml(self, image, control, _processors, memory_mib, net, words):
        command = ["linux.uml", f"mem={memory_mib}M", f"umid={self.folder.name}"]
        command += [f"ubda={self.folder}/root.cow,{image}/root.img", f"ubdb={self._disk}"]
        command += ["root=/dev/ubda", "rootfstype=ext4", "rw", "init=/sbin/guest-init"]
        command += ["con=null", "con0=null,fd:1", f"con1=fd:{control}", "ssl=null"]
        command += ["quiet", "loglevel=5", "panic=1", f"job={self.host}", *words]
        if net:
            command += [f"vec0:transport=tap,ifname={network.DEVICE},depth=128,gro=1"]
        return command

    def _newer_uml(self, *arguments):
        # It looks at its memory's layout, so that its dynamic linker must be at the usual place.
        root_of_trixie = releases.trixie() / "root"
        script = f'mount --bind "$0"/{LIBRARIES} /{LIBRARIES} && exec "$0"/usr/bin/linux.uml "$@"'
        return ["sh", "-c", script, str(root_of_trixie), *self._uml(*arguments)[1:]]

    def _qemu(self, image, control, processors, memory_mib, net, words):
        with tarfile.open(self.folder / "job.tar", "w") as archive:
            archive.add(self.host, ".")
        # no_timer_check: on a busy machine the emulated timer is too late for the kernel's taste.
        line = "console=ttyS0 quiet loglevel=5 panic=-1 no_timer_check"
        command = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none"]
        command += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]
        command += ["-smp", str(processors), "-m", f"{memory_mib}M", "-serial", "stdio"]
        command += ["-kernel", image / "vmlinuz", "-initrd", image / "initrd"]
        for name, more in (
            # It is never written to, so other guests' locks on it do not matter.
            (image / "root.img", ",snapshot=on,file.locking=off"),
            (self._disk, ",discard=unmap"),
            (self.folder / "job.tar", ",readonly=on"),
        ):
            command += ["-drive", f"file={name},format=raw,if=virtio{more}"]
        command += ["-device", "virtio-serial", "-chardev", f"socket,id=control,fd={control}"]
        for name in ("log", "results"):
            command += ["-chardev", f"file,id={name},path={self.folder / name}"]
        for name in ("control", "log", "results"):
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        if net:
            tap = f"tap,id=net,ifname={network.DEVICE},script=no,downscript=no"
            command += ["-netdev", tap, "-device", "virtio-net-pci,netdev=net"]
            line += " net.ifnames=0"
        return [*map(str, command), "-append", " ".join([line, *words])]

    def run(self, script, timeout=60, check=True):
        """Runs a script of bash; its failure is the test's, with all it has said."""
        self.tell(script)
        number, status, *outputs = self._receive(timeout, script).split()
        assert int(number) == self._number, f"answer {number} to request {self._number}"
        result = Result(int(status), *(_decoded(output) for output in outputs))
        if check and result.status != 0:
            told = f"{result.stdout}{result.stderr}"
            raise GuestFailed(f"status {result.status} of\n{script}\n{told}\n{self.console()}")
        return result

    def tell(self, script):
        """The same, and the guest ends before it can answer."""
        self._number += 1
        text = base64.b64encode(f"{script}\n".encode()).decode()
        self._control.sendall(f"{self._number} {text}\n".encode())

    def stdout(self, script, timeout=60):
        return self.run(script, timeout).stdout.strip()

    def _receive(self, timeout, what):
        deadline = time.monotonic() + timeout
        while b"\n" not in self._line:
            self._control.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                more = self._control.recv(1 << 20)
            except (TimeoutError, ConnectionResetError) as error:
                more, why = b"", str(error)
            else:
                why = "it has ended"
            if not more:
                self.power_off()
                raise GuestFailed(f"guest: {what}: {why} ({timeout} s)\n{self.console()}")
            self._line += more
        line, _, self._line = self._line.partition(b"\n")
        return line.decode()

    def wait(self, timeout=LIFE_SECONDS):
        """Waits until the guest's script has ended; its exit status, or None without one."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        self.power_off()  # what is left of it
        if (self.folder / "results").exists():  # QEMU's guest sends them
            try:
                with tarfile.open(self.folder / "results") as archive:
                    archive.extractall(self.host)
            except tarfile.ReadError:
                return None
        status = self.host / "rc"
        return int(status.read_text()) if status.exists() else None

    def log(self):
        """The output of its script so far."""
        for path in (self.folder / "log", self.host / "log"):
            if path.exists():
                return path.read_text(errors="replace")
        return ""

    def console(self):
        """The end of its kernel's output, for the one who looks into a failure."""
        return self._console_text.decode(errors="replace")[-8000:]

    def power_off(self):
        """The plug is drawn: nothing is synced, no connection closed by the guest's kernel."""
        self.process.kill()
        self.process.wait(30)
        # The last of its processes to go closes their end of the socket; the disk is ours then.
        self._control.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            while self._control.recv(1 << 20):
                pass
        self._console.join(30)

    def close(self):
        self.power_off()
        self._control.close()
        self.process.stdout.close()
        shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _decoded(output):
    return base64.b64decode(output[1:]).decode(errors="replace")
