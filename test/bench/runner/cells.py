"""The things that are measured: a Cell is one row of the report, to be done by every server."""

import dataclasses

TABLE = "table"
MATRIX = "matrix"
CONNECTIONS = "connections"
BUFFERED = "buffered"
LOOP = "loop"
LATENCY = "latency"
DISK = "disk"
NEW_IMAGE = "new-image"

SECTIONS = {
    TABLE: "The rows of the short table",
    MATRIX: "Matrix",
    CONNECTIONS: "Several connections, and 1,000 idle ones",
    BUFFERED: "Buffered mode: reads that hit the page cache",
    LOOP: "The loop driver's measurements",
    LATENCY: "Latency of 4 KiB reads under load",
    DISK: "A real disk against fio on the bare file",
    NEW_IMAGE: "A new image, which is one hole, on a real disk",
}

# Under load: of 20 requests beside the measured ones 16 write 1 MiB, 1 trims 1 GiB and 3 flush. The
# rate is the same for all servers, so that a fast one is not punished by a heavier load.
LOAD_MIX = "write:1M:16,trim:1G:1,flush:0:3"
LOAD_RATE = 100  # requests per second

BUFFERED_SERVERS = ("loopnbd-buffered", "nbdkit", "nbd-server")
# Servers that only some sections are interested in.
SECTIONS_OF = {"fio-file": (DISK,), "bare": (TABLE, DISK), "loopnbd-awake": (TABLE,)}
DISK_SERVERS = ("loopnbd", "bare", "fio-file", "loop-direct")


@dataclasses.dataclass(frozen=True)
class Cell:
    section: str
    name: str
    operation: str = "read"
    pattern: str = "random"
    block_size: str = "4k"
    depth: int = 1
    connections: int = 1
    medium: str = "tmpfs"  # or "disk"
    transport: str = "unix"  # or "tcp"
    idle_connections: int = 0
    memory_limit_mib: int = 0  # of a cgroup for the server
    loaded: bool = False  # LOAD_MIX runs on another connection
    whole: bool = False  # once over the image instead of for a time
    emptied: bool = False  # disk: the image is one hole before; the cells after it get no contents
    warm: bool = False  # disk: the image is in the page cache before
    servers: tuple = ()  # only these; empty: all that can

    @property
    def is_disk(self):
        return self.medium == "disk"

    def shows_throughput(self):
        """Large requests are compared by bytes, small ones by number."""
        return self.block_size.endswith("M") or int(self.block_size.rstrip("k")) >= 64


def table():
    """The rows of the issue's table; `--quick`."""
    return [
        Cell(TABLE, "4k-randread-32", depth=32),
        Cell(TABLE, "4k-randwrite-32", "write", depth=32),
        Cell(TABLE, "4k-randread-4x32", depth=32, connections=4),
        Cell(TABLE, "256k-read-8", block_size="256k", depth=8),
        Cell(TABLE, "256k-write-4", "write", block_size="256k", depth=4),
        Cell(TABLE, "4k-randread-1"),
        Cell(TABLE, "4k-randread-32-cgroup-64M", depth=32, medium="disk", memory_limit_mib=64),
    ]


def label(operation, pattern):
    return ("rand" if pattern == "random" else "seq") + operation


def matrix():
    """One axis at a time around a centre: the full product would take a night."""
    cells = []

    def add(operation, pattern, block_size, depth, connections=1, medium="tmpfs", transport="unix"):
        name = (
            f"{medium}-{transport}-{block_size}-{label(operation, pattern)}-{connections}x{depth}"
        )
        cells.append(
            Cell(
                MATRIX, name, operation, pattern, block_size, depth, connections, medium, transport
            )
        )

    kinds = [
        (operation, pattern)
        for operation in ("read", "write")
        for pattern in ("random", "sequential")
    ]
    for kind in kinds:
        for block_size, depth in (
            ("4k", 1),
            ("4k", 4),
            ("4k", 32),
            ("4k", 128),
            ("16k", 32),
            ("64k", 8),
            ("256k", 8),
            ("1M", 4),
        ):
            add(*kind, block_size, depth)
        for block_size, depth in (("4k", 1), ("4k", 32), ("64k", 8), ("1M", 4)):
            add(*kind, block_size, depth, medium="disk")
    for operation in ("read", "write"):
        for connections in (4, 16):
            add(operation, "random", "4k", 32, connections)
        for block_size, depth in (("4k", 1), ("4k", 32), ("256k", 8), ("1M", 4)):
            add(operation, "random", block_size, depth, transport="tcp")
        add(operation, "random", "4k", 32, 16, transport="tcp")
    return cells


def connections():
    cells = [
        Cell(CONNECTIONS, f"4k-rand{operation}-{count}x32", operation, depth=32, connections=count)
        for operation in ("read", "write")
        for count in (1, 2, 4, 8, 16)
    ]
    cells.append(Cell(CONNECTIONS, "4k-randread-1x32-idle-1000", depth=32, idle_connections=1000))
    cells.append(
        Cell(
            CONNECTIONS,
            "4k-randread-4x32-idle-1000",
            depth=32,
            connections=4,
            idle_connections=1000,
        )
    )
    return cells


def buffered():
    return [
        Cell(
            BUFFERED,
            f"{block_size}-randread-{depth}-hits",
            block_size=block_size,
            depth=depth,
            medium="disk",
            warm=True,
            servers=BUFFERED_SERVERS,
        )
        for block_size, depth in (
            ("4k", 1),
            ("4k", 4),
            ("4k", 32),
            ("4k", 128),
            ("64k", 8),
            ("1M", 4),
        )
    ]


def loop():
    return [
        Cell(LOOP, "1M-read-whole-image", "read", "sequential", "1M", 8, medium="disk", whole=True),
        Cell(
            LOOP, "1M-write-whole-image", "write", "sequential", "1M", 8, medium="disk", whole=True
        ),
        Cell(LOOP, "4k-randread-32-cold", depth=32, medium="disk"),
        Cell(LOOP, "4k-randwrite-32-cold", "write", depth=32, medium="disk"),
    ]


def latency():
    return [
        Cell(
            LATENCY, f"4k-randread-{depth}-loaded-{medium}", depth=depth, medium=medium, loaded=True
        )
        for medium in ("tmpfs", "disk")
        for depth in (1, 8)
    ]


def disk():
    return [
        Cell(
            DISK,
            f"{block_size}-{label(operation, 'random')}-{depth}",
            operation,
            block_size=block_size,
            depth=depth,
            medium="disk",
            servers=DISK_SERVERS,
        )
        for operation in ("read", "write")
        for block_size, depth in (("4k", 1), ("4k", 8), ("4k", 32), ("64k", 8), ("1M", 4))
    ]


def new_image():
    """A FLUSH at the end belongs to the time, so that a cache does not count as a disk."""
    return [
        Cell(
            NEW_IMAGE,
            f"{block_size}-{label('write', pattern)}-{depth}-new",
            "write",
            pattern,
            block_size,
            depth,
            medium="disk",
            whole=True,
            emptied=True,
        )
        for block_size, pattern, depth in (
            ("64k", "sequential", 8),
            ("64k", "random", 32),
            ("1M", "sequential", 4),
        )
    ]


def all_cells():
    return (
        table()
        + matrix()
        + connections()
        + buffered()
        + loop()
        + latency()
        + disk()
        + new_image()
    )
