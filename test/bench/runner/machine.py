"""The words of /proc about processes and the machine, and the kernel's switches the bench needs."""

import os
import pathlib
import platform
import re
import subprocess

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid):
    """The process and all its children, theirs, and so on: servers fork, or start daemons."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def stat_fields(pid):
    """/proc/PID/stat behind the name, which may hold anything: state, ppid, ... Empty when gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def status_number(path, key):
    try:
        match = re.search(rf"^{key}:\s*(\d+)", pathlib.Path(path).read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match.group(1)) if match else 0


class Sample:
    """The counters of a server (all its processes) and of the machine at one moment."""

    def __init__(self, pid):
        pids = descendants(pid) if pid else []
        # utime and stime cover the threads that have ended as well.
        self.cpu_seconds = 0
        self.switches = {}
        for number in pids:
            fields = stat_fields(number)
            if fields:
                self.cpu_seconds += (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
            for task in pathlib.Path(f"/proc/{number}/task").glob("*/status"):
                self.switches[str(task)] = status_number(
                    task, "voluntary_ctxt_switches"
                ) + status_number(task, "nonvoluntary_ctxt_switches")
        self.peak_rss_kib = sum(status_number(f"/proc/{number}/status", "VmHWM") for number in pids)
        self.rss_kib = sum(status_number(f"/proc/{number}/status", "VmRSS") for number in pids)
        self.page_cache_kib = (
            status_number("/proc/meminfo", "Cached")
            + status_number("/proc/meminfo", "Buffers")
            - status_number("/proc/meminfo", "Shmem")
        )

    def switches_since(self, before):
        """Threads that have ended meanwhile took their counters with them."""
        return sum(count - before.switches.get(task, 0) for task, count in self.switches.items())


def is_root():
    return os.geteuid() == 0


def drop_caches():
    """Cold caches; needs root."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def first_line(*command):
    """The first line that a program prints, on either channel; for versions."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "not installed"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def file_system(folder):
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def description():
    memory_gib = status_number("/proc/meminfo", "MemTotal") / (1 << 20)
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_gib, 1),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
    }


class MemoryCgroup:
    """A memory limit for servers; version 1 or 2, whichever holds the memory controller."""

    def __init__(self, limit_bytes):
        self.limit_bytes = limit_bytes
        self.path = None
        self.reason = None  # why there is none

    def __enter__(self):
        try:
            parent, limit_name = self.find_parent()
            self.path = parent / f"loopnbd-bench-{os.getpid()}"
            self.path.mkdir()
            (self.path / limit_name).write_text(f"{self.limit_bytes}\n")
        except (OSError, LookupError) as error:
            self.reason = f"no memory cgroup can be made: {error}"
            self.__exit__()
        return self

    def __exit__(self, *_):
        if self.path and self.path.exists():
            self.path.rmdir()
        self.path = None

    @staticmethod
    def find_parent():
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            _, mount, kind, options = line.split()[:4]
            root = pathlib.Path(mount)
            if kind == "cgroup" and "memory" in options.split(","):
                return root, "memory.limit_in_bytes"
            if kind == "cgroup2" and "memory" in (root / "cgroup.controllers").read_text().split():
                (root / "cgroup.subtree_control").write_text("+memory\n")
                return root, "memory.max"
        raise LookupError("no memory controller is mounted")

    def enter_from_child(self):
        """Called in the child before it becomes the server."""
        (self.path / "cgroup.procs").write_text("0\n")
