"""Does the cells: prepares, starts a server, loads it, and takes the samples around the load."""

import contextlib
import os
import statistics
import subprocess

from runner import cells as catalogue
from runner import generator, machine, servers

FIO_SERVERS = ("fio-file", "loop-direct", "loop-buffered")

# Values that are medians of the rounds; the rest of a result is that of the last round.
MEDIANS = (
    "iops",
    "bytes_per_second",
    "server_cpu_us",
    "client_cpu_us",
    "switches_per_request",
    "peak_rss_kib",
    "rss_kib",
    "page_cache_growth_kib",
)


def fio_can(cell):
    """Whether the cell means anything without an NBD server."""
    for_servers = cell.loaded or cell.idle_connections or cell.memory_limit_mib
    return not for_servers and cell.transport == "unix"


class Bench:
    """Images, programs and settings of a run."""

    def __init__(self, load_generator, folder, images, image_size, seconds):
        self.load_generator = load_generator
        self.folder = folder  # sockets, logs; on tmpfs
        self.images = images  # medium -> path
        self.image_size = image_size
        self.seconds = seconds

    def fill(self, medium):
        subprocess.run(
            [
                str(self.load_generator),
                "--fill",
                str(self.images[medium]),
                "--fill-size",
                str(self.image_size),
            ],
            check=True,
        )

    def prepare(self, cell):
        """The same image and page cache for each server."""
        if not cell.is_disk:
            return
        if cell.emptied:
            os.truncate(self.images[cell.medium], 0)
            os.truncate(self.images[cell.medium], self.image_size)
        if cell.warm:
            with open(self.images[cell.medium], "rb", buffering=0) as image:
                buffer = bytearray(4 << 20)
                while image.readinto(buffer):
                    pass
        elif machine.is_root():
            machine.drop_caches()

    def measure(self, cell, server):
        """One server, one cell, once. Raises StartError or LoadError."""
        self.prepare(cell)
        if server in FIO_SERVERS:
            return self.measure_fio(cell, server)
        with contextlib.ExitStack() as stack:
            cgroup = None
            if cell.memory_limit_mib:
                cgroup = stack.enter_context(machine.MemoryCgroup(cell.memory_limit_mib << 20))
                if cgroup.reason:
                    raise servers.StartError(cgroup.reason)
            image = self.images[cell.medium]
            with servers.uninterrupted():
                running = server.start(self.folder, image, cell.transport, cgroup)
                stack.callback(running.stop)
            try:
                return self.load(cell, running)
            except generator.LoadError as error:
                raise generator.LoadError(
                    f"{error}; the server said: {running.log()[-500:] or 'nothing'}"
                )

    def load(self, cell, running):
        with contextlib.ExitStack() as stack:
            alone = machine.Sample(running.pid)
            arguments = generator.cell_arguments(cell, self.seconds, self.image_size)
            load = stack.enter_context(generator.Generator(self.load_generator, running, arguments))
            background = None
            if cell.loaded:
                background = stack.enter_context(
                    generator.Generator(
                        self.load_generator,
                        running,
                        generator.background_arguments(
                            catalogue.LOAD_MIX, catalogue.LOAD_RATE, self.seconds, self.image_size
                        ),
                    )
                )
            before = machine.Sample(running.pid)
            if background:
                background.start()
            load.start()
            report = load.report()
            if background:
                report["background"] = background.report()
            after = machine.Sample(running.pid)
        return self.completed(report, before, after, alone)

    @staticmethod
    def completed(report, before, after, alone):
        """The report with what the server spent; the background's requests are counted in."""
        background = report.get("background", {"operations": 0, "errors": 0, "failures": []})
        count = max(1, report["operations"] + background["operations"])
        report["errors"] += background["errors"]
        report["failures"] += background["failures"]
        report["server_cpu_us"] = (after.cpu_seconds - before.cpu_seconds) * 1e6 / count
        report["client_cpu_us"] = report["client_cpu_seconds"] * 1e6 / max(1, report["operations"])
        report["switches_per_request"] = after.switches_since(before) / count
        report["peak_rss_kib"] = after.peak_rss_kib
        report["rss_kib"] = after.rss_kib
        report["connected_rss_growth_kib"] = before.rss_kib - alone.rss_kib
        report["page_cache_growth_kib"] = after.page_cache_kib - before.page_cache_kib
        return report

    def measure_fio(self, cell, server):
        image = self.images[cell.medium]
        with contextlib.ExitStack() as stack:
            path = image
            if server != "fio-file":
                path = stack.enter_context(servers.LoopDevice(image, server == "loop-direct"))
            before = machine.Sample(None)
            report = generator.fio(cell, path, self.seconds, self.image_size)
            after = machine.Sample(None)
        report["page_cache_growth_kib"] = after.page_cache_kib - before.page_cache_kib
        report["client_cpu_us"] = report["client_cpu_seconds"] * 1e6 / max(1, report["operations"])
        return report


def median_of(rounds):
    """One result out of those of all rounds."""
    result = dict(rounds[-1])
    for key in MEDIANS:
        if key in result:
            result[key] = statistics.median(one[key] for one in rounds)
    result["latency_us"] = {
        key: statistics.median(one["latency_us"][key] for one in rounds)
        for key in result["latency_us"]
    }
    result["errors"] = sum(
        one["errors"] + one["mismatches"] + len(one["failures"]) for one in rounds
    )
    result["iops_rounds"] = [round(one["iops"]) for one in rounds]
    return result


def measure_cell(bench, cell, chosen, rounds, say):
    """All servers in turn, as often as there are rounds: whatever drifts hits them all alike.

    Returns server name -> result, or {"reason": text} for one that cannot do the cell.
    """
    collected = {}
    reasons = {}
    for number in range(rounds):
        for name, server in chosen.items():
            if name in reasons:
                continue
            try:
                result = bench.measure(cell, server)
                collected.setdefault(name, []).append(result)
                say(f"  {number + 1}/{rounds} {name:17} {result['iops']:>9.0f} IOPS")
            except (servers.StartError, generator.LoadError) as error:
                reasons[name] = str(error)
                say(f"  {number + 1}/{rounds} {name:17} {error}")
    results = {name: median_of(rounds_done) for name, rounds_done in collected.items()}
    # Failed in any round is failed: the rest of the rounds would look like a result.
    results.update({name: {"reason": reason} for name, reason in reasons.items()})
    return results
