"""A server in a small container, whose clients do their worst: the kernel never ends it for want of
memory, and who comes is served.
"""

import os
import pathlib
import re
import time

import pytest

from support import images, tls
from support.nbd_client import (
    CMD_READ,
    CMD_WRITE,
    OPT_LIST,
    Client,
    Disconnected,
    option_message,
    request_message,
)

pytestmark = pytest.mark.bulk

MIB = images.MIB
LIMIT = 64 * MIB


class Group:
    """A memory control group with a limit, below that of this process."""

    def __init__(self):
        hierarchies = pathlib.Path("/proc/self/cgroup").read_text()
        first = re.search(r"^\d+:[^:]*\bmemory\b[^:]*:(.*)$", hierarchies, re.MULTILINE)
        unified = re.search(r"^0::(.*)$", hierarchies, re.MULTILINE)
        name = f"loopnbd-test-{os.getpid()}"
        if first:
            above = pathlib.Path("/sys/fs/cgroup/memory" + first[1])
            self.events, self.limit = "memory.oom_control", "memory.limit_in_bytes"
        elif unified:
            above = pathlib.Path("/sys/fs/cgroup" + unified[1])
            self.events, self.limit = "memory.events", "memory.max"
        else:
            pytest.skip("there are no memory control groups here")
        self.path = above / name
        try:
            self.path.mkdir()
            (self.path / self.limit).write_text(str(LIMIT))
        except OSError as error:
            self.remove()
            pytest.skip(f"no control group can be made below {above}: {error}")

    pid = "self"  # its members are in no other network

    def command(self, *command):
        """The command that runs the given one in the group."""
        join = f"echo $$ >{self.path}/cgroup.procs && exec \"$@\""
        return ["/bin/sh", "-c", join, "sh", *command]

    def kills(self):
        events = (self.path / self.events).read_text()
        return int(re.search(r"^oom_kill (\d+)$", events, re.MULTILINE)[1])

    def remove(self):
        if self.path.exists():
            self.path.rmdir()


@pytest.fixture
def group():
    made = Group()
    yield made
    made.remove()


def silent(make):
    return make()


def asks_without_end(make):
    """The answers are many times as long as the questions."""
    client = make()
    client.socket.settimeout(0.01)
    try:
        for _ in range(1000):
            client.socket.send(option_message(OPT_LIST) * 10)
    except OSError:  # it has to wait
        pass
    return client


def attached(make):
    client = make()
    client.go()
    return client


def reads_nothing(length, count):
    def step(make):
        client = attached(make)
        for cookie in range(count):
            client.send(request_message(CMD_READ, 0, length, cookie=cookie))
        return client

    return step


def stops_in_a_payload(make):
    client = attached(make)
    client.send(request_message(CMD_WRITE, 0, MIB, cookie=1) + bytes(1000))
    return client


def begins_a_record(make):
    """Of TLS, behind the client's back."""
    client = attached(make)
    os.write(client.socket.fileno(), b"\x17\x03\x03\x40\x10" + bytes(100))
    return client


STATES = [
    silent,
    asks_without_end,
    attached,
    reads_nothing(320 << 10, 1),
    reads_nothing(1900 << 10, 1),
    reads_nothing(MIB, 60),
    stops_in_a_payload,
]


def attack(states, make):
    """A thousand clients, or as many as the server takes, in all states in turn."""
    clients = []
    for number in range(1000):
        try:
            clients.append(states[number % len(states)](make))
        except (Disconnected, OSError):
            break
    return clients


def check_newcomers(server, make):
    for _ in range(5):
        begin = time.monotonic()
        with attached(make) as newcomer:
            assert len(newcomer.read(0, 4096)) == 4096
            newcomer.write(0, bytes(4096))
        assert time.monotonic() - begin < 10
    assert not server.has_ended()


@pytest.mark.parametrize("listen", ["unix", "tcp"])
def test_a_small_container_bears_a_thousand_clients_that_do_their_worst(
    group, serve, tmp_path, listen
):
    disk = images.make_image(tmp_path / "disk.img", 4 * MIB)
    server = serve(disk, listen=listen, net=group)

    def make():
        return Client(server.connect()).greet()

    clients = attack(STATES, make)
    assert len(clients) > 300
    # Replies in a Unix socket are slow to be given up: newcomers beside all of these wait longer
    # than they should, so only those that come after them are asked.
    for client in clients if listen == "unix" else clients[-20:]:
        client.close()
    check_newcomers(server, make)
    assert group.kills() == 0


def test_a_small_container_bears_clients_of_tls_that_do_their_worst(group, serve, tmp_path, pki):
    disk = images.make_image(tmp_path / "disk.img", 4 * MIB)
    server = serve(
        *("--tls-certificate", pki / "server-cert.pem", "--tls-key", pki / "server-key.pem"),
        disk,
        net=group,
    )
    context = tls.context(pki)

    def make():
        return tls.connect(server, context)

    clients = attack([*STATES, begins_a_record], make)
    assert len(clients) > 150
    for client in clients[-20:]:
        client.close()
    check_newcomers(server, make)
    assert group.kills() == 0
