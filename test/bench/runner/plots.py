"""Plots of the results, by gnuplot."""

import shutil
import subprocess

from runner import cells as catalogue
from runner import report

# Okabe and Ito's palette, told apart also by those who see few colours. One server, one colour.
COLOURS = {
    "loopnbd": "#D55E00",
    "loopnbd-buffered": "#E69F00",
    "loopnbd-busy-poll": "#8B3A00",
    "loopnbd-awake": "#FFB07C",
    "bare": "#F0E442",
    "nbdkit": "#0072B2",
    "nbdkit-nocache": "#56B4E9",
    "qemu-native": "#009E73",
    "qemu-io_uring": "#84C8A8",
    "nbd-server": "#CC79A7",
    "loop-direct": "#666666",
    "loop-buffered": "#AAAAAA",
    "fio-file": "#000000",
}


def gnuplot(folder, name, title, axis, body):
    script = "\n".join(
        [
            "set terminal pngcairo size 1200,600 font 'sans,11' background '#ffffff'",
            f"set output '{folder / name}'",
            f"set title {quoted(title)}",
            f"set ylabel {quoted(axis)}",
            "set key outside right top",
            "set grid ytics lc rgb '#dddddd'",
            "set yrange [0:*]",
            body,
            "",
        ]
    )
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
    return name


def quoted(text):
    """gnuplot's enhanced text takes underscores for subscripts."""
    return '"' + text.replace("_", "-") + '"'


def drawable(rows):
    """Servers with at least one result: gnuplot refuses to plot nothing."""
    return [
        server
        for server in report.names_of(rows)
        if server in COLOURS and any(report.good(results.get(server)) for _, results in rows)
    ]


def bars(folder, name, title, axis, rows, figure):
    """One cluster per cell, one bar per server."""
    names = drawable(rows)
    lines = ["$figures << EOD"]
    for cell, results in rows:
        values = [
            str(figure(results[server])) if report.good(results.get(server)) else "?"
            for server in names
        ]
        lines.append(" ".join([quoted(cell.name), *values]))
    lines += [
        "EOD",
        "set style data histograms",
        "set style histogram clustered gap 2",
        "set style fill solid 0.9 noborder",
        "set xtics rotate by -20 noenhanced",
        "set datafile missing '?'",
    ]
    plots = [
        f"$figures using {column + 2}:xtic(1) title {quoted(server)} lc rgb '{COLOURS[server]}'"
        for column, server in enumerate(names)
    ]
    return gnuplot(folder, name, title, axis, "\n".join([*lines, "plot " + ", ".join(plots)]))


def lines_over_depth(folder, name, title, rows):
    """IOPS against queue depth, one line per server."""
    names = drawable(rows)
    body = []
    for index, server in enumerate(names):
        body.append(f"$server{index} << EOD")
        body += [
            f"{cell.depth} {results[server]['iops'] / 1000}"
            for cell, results in rows
            if report.good(results.get(server))
        ]
        body.append("EOD")
    body += ["set logscale x 2", "set xlabel 'requests in flight'"]
    plots = [
        f"$server{index} with linespoints pt 7 lw 2 title {quoted(server)} "
        f"lc rgb '{COLOURS[server]}'"
        for index, server in enumerate(names)
    ]
    return gnuplot(
        folder,
        name,
        title,
        "thousand requests per second",
        "\n".join([*body, "plot " + ", ".join(plots)]),
    )


def thousand_iops(result):
    return result["iops"] / 1000


def draw_section(folder, section, rows):
    small = [row for row in rows if not row[0].shows_throughput()]
    large = [row for row in rows if row[0].shows_throughput()]
    title = catalogue.SECTIONS[section]
    names = []
    if section == catalogue.MATRIX:
        for operation in ("read", "write"):
            curve = [
                row
                for row in rows
                if row[0].medium == "tmpfs"
                and row[0].transport == "unix"
                and row[0].operation == operation
                and row[0].pattern == "random"
                and row[0].block_size == "4k"
                and row[0].connections == 1
            ]
            if curve:
                names.append(
                    lines_over_depth(
                        folder,
                        f"matrix-depth-{operation}.png",
                        f"4 KiB random {operation}, tmpfs, one connection",
                        curve,
                    )
                )
        return names
    if section == catalogue.LATENCY:
        return [
            bars(
                folder,
                "latency.png",
                title,
                "p99.9 in us",
                rows,
                lambda result: result["latency_us"]["p99_9"],
            )
        ]
    if small:
        names.append(
            bars(
                folder,
                f"{section}-iops.png",
                title,
                "thousand requests per second",
                small,
                thousand_iops,
            )
        )
        served = [
            (cell, {name: result for name, result in results.items() if "server_cpu_us" in result})
            for cell, results in small
        ]
        if drawable(served):
            names.append(
                bars(
                    folder,
                    f"{section}-cpu.png",
                    title,
                    "server CPU per request in us",
                    served,
                    lambda result: result["server_cpu_us"],
                )
            )
    if large:
        names.append(
            bars(
                folder,
                f"{section}-throughput.png",
                title,
                "GiB/s",
                large,
                lambda result: result["bytes_per_second"] / (1 << 30),
            )
        )
    return names


def draw(folder, rows):
    """All plots of the rows: section -> file names. Nothing without gnuplot."""
    if not shutil.which("gnuplot"):
        return {}
    drawn = {}
    for section in catalogue.SECTIONS:
        section_rows = [row for row in rows if row[0].section == section]
        if drawable(section_rows):
            drawn[section] = draw_section(folder, section, section_rows)
    return drawn
