"""Drives the load generator and fio."""

import json
import subprocess


class LoadError(Exception):
    """A run did not work; the text says why."""


class Generator:
    """One load generator, connected and waiting; a context. start() lets it go, report() waits.

    The connections stay open until the context ends, so that the server's threads and processes can
    be examined before and after.
    """

    def __init__(self, program, running, arguments):
        self.command = [
            str(program),
            running.endpoint.address,
            "--export",
            running.export_name,
            "--json",
            "--controlled",
            "--wait",
            "10",
            *map(str, arguments),
        ]
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.expect_line()
        except LoadError:
            self.__exit__()
            raise
        return self

    def expect_line(self):
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise LoadError(errors.strip() or "the load generator ended without a report")
        return line

    def start(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def report(self):
        return json.loads(self.expect_line())

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def cell_arguments(cell, seconds, image_size):
    """The load generator's arguments for a cell."""
    arguments = [
        "--operation",
        cell.operation,
        "--pattern",
        cell.pattern,
        "--block-size",
        cell.block_size,
        "--depth",
        cell.depth,
        "--connections",
        cell.connections,
    ]
    if cell.idle_connections:
        arguments += ["--idle-connections", cell.idle_connections]
    if cell.loaded:
        arguments += ["--range-length", image_size // 2]
    if cell.whole:
        arguments += ["--count", whole_count(cell, image_size)]
        if cell.operation == "write":
            arguments.append("--flush-at-end")
    else:
        arguments += ["--seconds", seconds]
    return arguments


def whole_count(cell, image_size):
    unit = {"k": 10, "M": 20}[cell.block_size[-1]]
    return image_size // (int(cell.block_size[:-1]) << unit)


def background_arguments(mix, rate, seconds, image_size):
    """The load beside a cell, on the half of the image that the cell leaves alone."""
    half = image_size // 2
    return [
        "--mix",
        mix.replace("1G", str(min(half, 1 << 30))),
        "--rate",
        rate,
        "--depth",
        4,
        "--range-offset",
        half,
        "--seconds",
        seconds,
    ]


def fio(cell, path, seconds, image_size):
    """The cell as a libaio job of fio on a file or device; the same kind of report."""
    kind = ("rand" if cell.pattern == "random" else "") + cell.operation
    command = [
        "fio",
        "--name=bench",
        f"--filename={path}",
        "--ioengine=libaio",
        "--direct=1",
        f"--rw={kind}",
        f"--bs={cell.block_size}",
        f"--iodepth={cell.depth}",
        f"--numjobs={cell.connections}",
        "--group_reporting",
        "--norandommap",
        "--scramble_buffers=0",
        "--percentile_list=50:99:99.9",
        "--output-format=json",
        f"--size={image_size}",
    ]
    if cell.whole:
        command += ["--end_fsync=1"] if cell.operation == "write" else []
    else:
        command += ["--time_based", f"--runtime={seconds}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(f"fio: {(done.stderr or done.stdout).strip()[-500:]}")
    # Warnings may stand in front of the JSON.
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    result = job[cell.operation]
    percentiles = result["clat_ns"].get("percentile", {})
    return {
        "operations": result["total_ios"],
        "iops": result["iops"],
        "bytes_per_second": result["bw_bytes"],
        "latency_us": {
            "mean": result["clat_ns"]["mean"] / 1000,
            "p50": percentiles.get("50.000000", 0) / 1000,
            "p99": percentiles.get("99.000000", 0) / 1000,
            "p99_9": percentiles.get("99.900000", 0) / 1000,
            "max": result["clat_ns"]["max"] / 1000,
        },
        "client_cpu_seconds": (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1000,
        "errors": job["error"],
        "mismatches": 0,
        "failures": [],
    }
