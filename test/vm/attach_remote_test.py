"""loopnbd attach nbd://: the kernel's client on an export of another server."""

import json

import pytest

from attach_recovery_test import no_error_was_seen, write_and_verify
from rig import guest

SERVE = "loopnbd serve --listen 127.0.0.1:10809 --listen unix:/run/nbd.sock /srv/disk.img"
START = f"""{SERVE} 2>>/tmp/server.log & echo $! >/run/server.pid
    until test -S /run/nbd.sock; do sleep 0.1; done"""
KILL = "kill -9 $(cat /run/server.pid); rm -f /run/nbd.sock"
ADDRESSES = ["nbd://127.0.0.1/disk.img", "nbd+unix:///disk.img?socket=/run/nbd.sock"]


def with_server(machine):
    machine.run(f"""
        mkfs.ext4 -q $DISK && mkdir -p /srv /mnt/disk && mount $DISK /srv
        truncate -s 128M /srv/disk.img && mkfs.ext4 -q /srv/disk.img
        {START}""")
    return machine


@pytest.fixture(name="machine")
def guest_with_server():
    with guest.Guest() as machine:
        yield with_server(machine)


@pytest.mark.parametrize("address", ADDRESSES, ids=["tcp", "unix"])
def test_a_remote_export_is_attached_listed_and_detached(machine, address):
    assert machine.stdout(f"loopnbd attach '{address}'") == "/dev/nbd0"
    (entry,) = json.loads(machine.stdout("loopnbd devices --json"))
    assert entry["backend"] == address.replace("127.0.0.1/", "127.0.0.1:10809/")
    machine.run(f"""
        mount /dev/nbd0 /mnt/disk && cp -a /usr/bin /mnt/disk/ && umount /mnt/disk
        loopnbd detach /dev/nbd0 && ! kill -0 {entry["pid"]} 2>/dev/null
        kill $(cat /run/server.pid) && tail --pid=$(cat /run/server.pid) -f /dev/null
        fsck.ext4 -fn /srv/disk.img
        loopnbd attach --read-only /srv/disk.img && mount -o ro /dev/nbd0 /mnt/disk
        diff -r --no-dereference /usr/bin /mnt/disk/bin
        umount /mnt/disk && loopnbd detach /dev/nbd0""")
    assert json.loads(machine.stdout("loopnbd devices --json")) == []


@pytest.mark.parametrize("address", ADDRESSES, ids=["tcp", "unix"])
def test_a_server_that_is_killed_and_comes_back_is_not_noticed(machine, address):
    machine.run(f"loopnbd attach --timeout 5 '{address}' && mount /dev/nbd0 /mnt/disk")
    machine.run(write_and_verify(f"in_flight; {KILL}; sleep 3; {START}"), 240)
    no_error_was_seen(machine)


def test_with_four_connections_and_processors_it_is_not_noticed_either():
    with guest.Guest(kernel="qemu", processors=4) as machine:
        with_server(machine)
        attach = f"loopnbd attach --timeout 5 --connections 4 {ADDRESSES[0]}"
        machine.run(f"{attach} && mount /dev/nbd0 /mnt/disk")
        assert machine.stdout("ls /sys/block/nbd0/mq").split() == ["0", "1", "2", "3"]
        machine.run(write_and_verify(f"in_flight; {KILL}; sleep 3; {START}"), 240)
        no_error_was_seen(machine)


def test_when_one_of_several_connections_dies_all_are_replaced():
    # The kernel of User-mode Linux cannot do what `ss -K` asks of it.
    with guest.Guest(kernel="qemu", processors=2) as machine:
        with_server(machine)
        machine.run(f"""
            loopnbd attach --timeout 5 --connections 3 --log-level info --foreground \
                {ADDRESSES[0]} >/tmp/device 2>/tmp/attach.log &
            until test -s /tmp/device; do sleep 0.1; done
            mount /dev/nbd0 /mnt/disk""")
        ports = "ss -Htn state established dport = 10809 | awk '{print $3}' | sort"
        before = machine.stdout(ports).split()
        assert len(before) == 3
        cut = f"ss -K dst 127.0.0.1 dport = 10809 sport = {before[1].rpartition(':')[2]} >/dev/null"
        machine.run(write_and_verify(cut), 240)
        after = machine.stdout(ports).split()
        assert len(after) == 3
        assert not set(before) & set(after)
        no_error_was_seen(machine)


def test_the_process_that_reconnects_may_die_and_come_back(machine):
    attach = f"loopnbd attach --timeout 5 {ADDRESSES[0]}"
    machine.run(f"{attach} && mount /dev/nbd0 /mnt/disk")
    kill = "kill -9 $(pgrep -f 'loopnbd attach')"
    machine.run(
        write_and_verify(f"{kill}; {attach}; rounds 1; in_flight; {KILL}; sleep 3; {START}"), 240
    )
    no_error_was_seen(machine)


def test_the_dead_timeout_ends_the_wait_for_a_server_that_stays_away(machine):
    machine.run(f"loopnbd attach --timeout 2 --dead-timeout 4 {ADDRESSES[0]}; {KILL}")
    ended = machine.run(
        "timeout 60 dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct", 90, check=False
    )
    assert "Input/output error" in ended.stderr
    machine.run(f"{START}; until loopnbd detach /dev/nbd0; do sleep 0.5; done")


def test_what_cannot_be_attached_is_said(machine):
    def told(command):
        ended = machine.run(command, check=False)
        assert ended.status == 1, ended
        return ended.stderr

    assert "not found" in told("loopnbd attach nbd://127.0.0.1/other")
    assert "is the server running" in told("loopnbd attach nbd://127.0.0.1:10810/disk.img")
    assert "TLS" in told("loopnbd attach nbds://127.0.0.1/disk.img")
    machine.run(f"{KILL}; {START.replace('serve ', 'serve --read-only ')}")
    assert "--read-only" in told(f"loopnbd attach {ADDRESSES[0]}")
    machine.run(f"loopnbd attach --read-only {ADDRESSES[0]} && loopnbd detach /dev/nbd0")
