"""A thousand clients at once."""

import os
import pathlib
import random
import re
import resource

import pytest

from support import images
from support.nbd_client import CMD_READ, CMD_WRITE, Disconnected
from support.server import environment
from support.watching import watch

COUNT = 1000
BLOCK = 4096  # bytes, for each client
MIB = images.MIB


@pytest.fixture
def many_files():
    """As many open files as a client of each kind needs; the server sees to its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = COUNT + 200
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"needs {wanted} open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory_of(server):
    """Bytes of it that are in memory."""
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10


def content(number, generation):
    return random.Random(number * 1000 + generation).randbytes(BLOCK)


def write_and_read_back(clients, generation):
    """All of the requests of a kind are under way before the first reply is taken."""
    for number, client in enumerate(clients):
        client.request(CMD_WRITE, number * BLOCK, BLOCK, payload=content(number, generation))
    for client in clients:
        assert client.chunk().error == 0
    # Each reads what its neighbour has written.
    for number, client in enumerate(clients):
        client.request(CMD_READ, (number + 1) % COUNT * BLOCK, BLOCK)
    for number, client in enumerate(clients):
        assert client.chunk().data == content((number + 1) % COUNT, generation)


def processor_seconds_of(server):
    """Processor time that it has had."""
    fields = pathlib.Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.bulk
def test_a_client_among_thousands_attaches_at_the_cost_of_one_among_few(serve, tmp_path):
    others, measured = 2500, 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = others + 3 * measured
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    disk = images.make_sparse_image(tmp_path / "disk.img", MIB)
    server = serve("--max-connections", str(wanted), "--log-level", "warn", f"disk={disk}")
    clients = []

    def attach(count):
        begin = processor_seconds_of(server)
        for _ in range(count):
            clients.append(server.client())
            clients[-1].read(0, 512)
        return processor_seconds_of(server) - begin

    attach(measured)
    among_few = attach(measured)
    attach(others)
    among_many = attach(measured)
    for client in clients:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # With a look at each of the others it is thirteen times as much.
    assert among_many < 3 * among_few + 0.1, (among_few, among_many)


@pytest.mark.workers
@pytest.mark.parametrize("listen", ["unix", "tcp"])
def test_a_thousand_clients_write_at_once_and_all_is_there(serve, tmp_path, many_files, listen):
    disk = images.make_sparse_image(tmp_path / "disk.img", COUNT * BLOCK)
    # A sanitizer keeps freed memory, which is none of the server's.
    options = environment()["ASAN_OPTIONS"] + ":quarantine_size_mb=1"
    watched = watch(
        serve,
        *("--max-connections", str(COUNT + 2), "--memory", "16M", f"disk={disk}"),
        listen=listen,
        env={"ASAN_OPTIONS": options},
    )
    server = watched.server
    files, idle = server.file_count(), memory_of(server)
    sizes = []
    for generation in range(3):
        clients = [server.client() for _ in range(COUNT)]
        for attempt in range(2):
            write_and_read_back(clients, 2 * generation + attempt)
        sizes.append(memory_of(server))
        # A newcomer is served as if nobody else were there, and so is who only asks.
        with server.client() as newcomer:
            assert newcomer.read(0, BLOCK) == content(0, 2 * generation + 1)
        assert watched.get("/healthz")[0] == 200
        assert watched.status()["exports"][0]["connections"] >= COUNT
        for client in clients:
            client.close()
        server.wait_until(lambda: server.file_count() <= files + 4, "their end")
    assert sizes[0] - idle < 16 * MIB + COUNT * (40 << 10), (idle, sizes)
    assert sizes[2] - sizes[1] < 4 * MIB, (idle, sizes)
    server.stop()
    assert disk.read_bytes() == b"".join(content(number, 5) for number in range(COUNT))


def test_a_thousand_clients_do_not_keep_the_server_from_ending(serve, tmp_path, many_files):
    """All that was acknowledged is there, and nobody waits for those that do nothing."""
    disk = images.make_sparse_image(tmp_path / "disk.img", COUNT * BLOCK)
    server = serve("--max-connections", str(COUNT), f"disk={disk}")
    clients = [server.client() for _ in range(COUNT)]
    for number, client in enumerate(clients):
        client.request(CMD_WRITE, number * BLOCK, BLOCK, payload=content(number, 0))
    clients[-1].chunk()
    server.stop()
    written = disk.read_bytes()
    answered = 1
    for number, client in enumerate(clients[:-1]):
        try:
            assert client.chunk().error == 0
        except (Disconnected, OSError):
            continue
        answered += 1
        assert written[number * BLOCK :][:BLOCK] == content(number, 0)
    assert answered > 1
    for client in clients:
        client.close()
