"""The report as Markdown. Ratios from one run come first: readers compare them."""

from runner import cells as catalogue
from runner import measure

OURS = ("loopnbd", "loopnbd-buffered", "loopnbd-busy-poll", "loopnbd-awake")
# The measure of the design; nobody would serve a disk with it.
BARE = "bare"


def good(result):
    return result is not None and "reason" not in result and result["operations"] > 0


def value_text(cell, result):
    if result is None:
        return ""
    if not good(result):
        return "-"
    if cell.loaded:
        text = f"p99.9 {result['latency_us']['p99_9']:.0f} us"
    elif cell.shows_throughput():
        text = f"{result['bytes_per_second'] / (1 << 30):.2f} GiB/s"
    elif result["iops"] >= 10_000:
        text = f"{result['iops'] / 1000:.0f}k"
    else:
        text = f"{result['iops'] / 1000:.1f}k"
    if "server_cpu_us" in result:
        text += f", {result['server_cpu_us']:.1f} us"
    return text + (" (errors!)" if result["errors"] else "")


def peers(results):
    """NBD servers of others: name -> result."""
    return {
        name: result
        for name, result in results.items()
        if name not in (*OURS, BARE, *measure.FIO_SERVERS) and good(result)
    }


def speed(cell, result):
    """The more the better: requests per second, or under load the inverse of p99.9."""
    return 1 / max(result["latency_us"]["p99_9"], 0.01) if cell.loaded else result["iops"]


def ratios(cell, results):
    """Speed against the fastest peer, and the cheapest peer's CPU per request against ours."""
    # Page hits are compared in buffered mode, which is then the only one of ours in the row.
    ours = next((results[name] for name in OURS if good(results.get(name))), None)
    others = peers(results)
    if not ours or not others:
        return None
    fastest = max(others, key=lambda name: speed(cell, others[name]))
    cheapest = min(others, key=lambda name: others[name]["server_cpu_us"])
    cpu = max(ours["server_cpu_us"], 0.01)
    return {
        "speed": speed(cell, ours) / speed(cell, others[fastest]),
        "fastest": fastest,
        "cpu": others[cheapest]["server_cpu_us"] / cpu,
        "cheapest": cheapest,
    }


def table(header, rows):
    """Nothing when there are no rows."""
    if not rows:
        return ""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def names_of(section_rows):
    names = []
    for _, results in section_rows:
        names += [name for name in results if name not in names]
    return names


def overview(section_rows):
    names = names_of(section_rows)
    rows = []
    for cell, results in section_rows:
        found = ratios(cell, results)
        headline = ["", ""]
        if found:
            headline = [
                f"**{found['speed']:.2f}** ({found['fastest']})",
                f"**{found['cpu']:.2f}** ({found['cheapest']})",
            ]
        rows.append(
            [cell.name, *headline, *(value_text(cell, results.get(name)) for name in names)]
        )
    return table(["work", "speed : best peer", "cheapest peer's CPU : ours", *names], rows)


def number(result, key, scale=1.0, digits=1):
    return f"{result[key] / scale:.{digits}f}" if key in result else ""


def details(section_rows):
    rows = []
    for cell, results in section_rows:
        for name, result in results.items():
            if not good(result):
                rows.append(
                    [cell.name, name, result.get("reason", "no request succeeded")] + [""] * 8
                )
                continue
            latency = result["latency_us"]
            rows.append(
                [
                    cell.name,
                    name,
                    f"{result['iops']:.0f}",
                    f"{result['bytes_per_second'] / (1 << 20):.0f}",
                    f"{latency['p50']:.0f}",
                    f"{latency['p99']:.0f}",
                    f"{latency['p99_9']:.0f}",
                    number(result, "server_cpu_us", digits=2),
                    number(result, "switches_per_request", digits=3),
                    number(result, "peak_rss_kib", 1024),
                    number(result, "page_cache_growth_kib", 1024),
                ]
            )
    return table(
        [
            "work",
            "server",
            "IOPS",
            "MiB/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU us",
            "switches",
            "peak RSS MiB",
            "page cache growth MiB",
        ],
        rows,
    )


def find(rows, cell_name, server):
    for cell, results in rows:
        if cell.name == cell_name and good(results.get(server)):
            return results[server]
    return None


def quotient(results, mine, others, key="iops"):
    """How many times as much one server has as another; nothing when one of them has no result."""
    if not (good(results.get(mine)) and good(results.get(others))):
        return ""
    return f"{results[mine][key] / max(results[others][key], 1e-9):.2f}"


def table_verdict(rows):
    """The costs that the product adds to its design, and how fast that could be at best."""
    lines = []
    for cell, results in rows:
        found = ratios(cell, results)
        if found and good(results.get(BARE)):
            lines.append(
                [
                    cell.name,
                    quotient(results, "loopnbd", BARE),
                    quotient(results, "loopnbd", BARE, "server_cpu_us"),
                    quotient(results, BARE, found["fastest"]),
                ]
            )
    return table(["work", "speed, ours : bare", "CPU, ours : bare", "bare : best peer"], lines)


def disk_verdict(rows):
    """Ours, and the design's, as a fraction of fio on the bare file; and the loop driver."""
    return table(
        [
            "work",
            "ours : fio on the bare file",
            "bare : fio on the bare file",
            "ours : direct loop device",
        ],
        [
            [
                cell.name,
                quotient(results, "loopnbd", "fio-file"),
                quotient(results, BARE, "fio-file"),
                quotient(results, "loopnbd", "loop-direct"),
            ]
            for cell, results in rows
            if good(results.get("fio-file"))
        ],
    )


def connections_verdict(rows):
    """The effect of several and of idle connections on each server."""
    lines = []
    for name in names_of(rows):
        one = find(rows, "4k-randread-1x32", name)
        four = find(rows, "4k-randread-4x32", name)
        idle = find(rows, "4k-randread-1x32-idle-1000", name)
        if not one or name in measure.FIO_SERVERS:
            continue
        growth = f"{idle['connected_rss_growth_kib'] / 1024:.1f} MiB" if idle else "fails"
        lines.append(
            [
                name,
                f"{four['iops'] / one['iops']:.2f}" if four else "",
                f"{idle['iops'] / one['iops']:.3f}" if idle else "",
                growth,
            ]
        )
    return table(
        ["server", "4 connections : 1", "with 1,000 idle : without", "memory of 1,000 idle"], lines
    )


def loop_verdict(rows):
    """Direct against buffered: what the loop driver's direct I/O was argued with."""
    lines = []
    for cell, results in rows:
        direct, through_cache = results.get("loopnbd"), results.get("loopnbd-buffered")
        if not (good(direct) and good(through_cache)):
            continue
        lines.append(
            [
                cell.name,
                number(direct, "page_cache_growth_kib", 1024),
                number(through_cache, "page_cache_growth_kib", 1024),
                quotient(results, "loopnbd", "loopnbd-buffered", "switches_per_request"),
                quotient(results, "loopnbd", "loopnbd-buffered"),
            ]
        )
    return table(
        [
            "work",
            "page cache growth MiB, direct",
            "buffered",
            "switches direct : buffered",
            "speed direct : buffered",
        ],
        lines,
    )


VERDICTS = {
    catalogue.TABLE: table_verdict,
    catalogue.DISK: disk_verdict,
    catalogue.CONNECTIONS: connections_verdict,
    catalogue.LOOP: loop_verdict,
}


def markdown(run, rows, plots):
    """`run`: date, machine, versions, settings; `rows`: (cell, results) in order."""
    parts = [
        f"# Bench report of {run['date']}\n",
        "\n".join(f"* {key}: {value}" for key, value in run["machine"].items()),
        "\n".join(f"* {key}: {value}" for key, value in run["versions"].items()),
        f"* {run['seconds']} s a measurement, median of {run['rounds']} rounds, servers in turn\n"
        f"* command: `{run['command']}`\n",
    ]
    if run["machine"]["load_average"] > 0.5:
        parts.append("**The machine was not idle when the run began: the figures are noise.**\n")
    parts.append(
        "A cell of the tables: requests or bytes per second (under load: latency), and the\n"
        "server's CPU time per request.\n"
    )
    for section, title in catalogue.SECTIONS.items():
        section_rows = [row for row in rows if row[0].section == section]
        if not section_rows:
            continue
        parts += [f"## {title}\n", overview(section_rows)]
        if section in VERDICTS:
            parts.append(VERDICTS[section](section_rows))
        parts += [f"![{title}]({plot})\n" for plot in plots.get(section, [])]
    parts.append("## All figures\n")
    parts.append(details(rows))
    return "\n".join(parts)
