"""A changed configuration takes effect while clients work (SIGHUP)."""

import threading

import pytest

from support import images, nbd_client
from support.configuration import Configuration, export
from support.control import Control
from support.nbd_client import OPT_GO, REP_ERR_UNKNOWN, go_payload
from support.parallel import run_all
from support.server import WAIT_SECONDS, run
from support.watching import Watched

MIB = images.MIB


@pytest.fixture
def disks(tmp_path):
    """Three files of 2 MiB: a.img, b.img, c.img."""
    return [images.make_image(tmp_path / f"{name}.img", 2 * MIB, seed=ord(name)) for name in "abc"]


def start(serve, tmp_path, *exports, head="workers = 2"):
    configuration = Configuration(tmp_path / "loopnbd.toml", *exports, head=head)
    return serve("--config", configuration.path), configuration


def is_unknown(server, export_name):
    with nbd_client.Client(server.connect()) as client:
        client.greet()
        return client.option_type(OPT_GO, go_payload(export_name)) == REP_ERR_UNKNOWN


def test_a_reload_adds_changes_and_removes_exports(serve, tmp_path, disks):
    a, b, c = disks
    server, configuration = start(serve, tmp_path, export("kept", a), export("gone", b))
    outcome = configuration.reload(
        server, export("kept", a, description="new words"), export("new", c)
    )
    assert "added: new; changed: kept; removed: gone" in outcome
    assert is_unknown(server, "gone")
    with server.client("new") as client:
        assert client.read(0, 4096) == c.read_bytes()[:4096]
    server.stop()


def test_counters_go_on_while_an_export_keeps_its_name(serve, tmp_path, disks):
    """Whether its description, its file or all of it changes, and with clients of its old form."""
    a, b, _ = disks
    address = str(tmp_path / "http.sock")
    head = f'workers = 2\n[http]\nlisten = "unix:{address}"'
    server, configuration = start(serve, tmp_path, export("disk", a), export("other", b), head=head)
    watched = Watched(server, address)
    written = "loopnbd_bytes_total,command=write,export=disk"
    with server.client("disk") as old:
        old.write(0, b"1" * 1000)
        configuration.reload(
            server, export("disk", a, description="new words"), export("other", b, read_only=True)
        )
        old.write(0, b"2" * 200)
        with server.client("disk") as new:
            new.write(0, b"3" * 30)
            metrics = watched.metrics()
            assert metrics[written] == 1230
            assert metrics["loopnbd_export_connections,export=disk"] == 2
            assert metrics["loopnbd_export_connections_total,export=disk"] == 2
    configuration.reload(server, export("disk", disks[2]))
    with server.client("disk") as newest:
        newest.write(0, b"4" * 4)
    assert watched.metrics()[written] == 1234
    server.stop()


def test_a_connection_keeps_what_it_negotiated(serve, tmp_path, disks):
    a, b, c = disks
    server, configuration = start(serve, tmp_path, export("moved", a), export("gone", b))
    with server.client("moved") as moved, server.client("gone") as gone:
        configuration.reload(server, export("moved", c))
        gone.write(0, b"g" * 5000)
        moved.write(0, b"m" * 5000)
        with server.client("moved") as newcomer:
            newcomer.write(0, b"n" * 5000)
            assert moved.read(0, 5000) == b"m" * 5000
            assert newcomer.read(0, 5000) == b"n" * 5000
    server.stop()
    assert [disk.read_bytes()[0:1] for disk in disks] == [b"m", b"g", b"n"]


def test_a_file_is_closed_when_the_last_client_of_its_removed_export_has_gone(
    serve, tmp_path, disks
):
    a, b, _ = disks
    server, configuration = start(serve, tmp_path, export("a", a), export("b", b))
    with server.client("b"):
        configuration.reload(server, export("a", a))
        assert images.is_locked(b)
    server.wait_until(lambda: not images.is_locked(b), "closing of the removed export's file")
    assert images.is_locked(a)
    server.stop()


@pytest.mark.parametrize(
    "broken, why",
    [
        (lambda a: 'export = "nonsense"', "export"),
        (lambda a: export("a", a) + "[[\n", "no TOML"),
        (lambda a: export("a", a, unheard_of=1), "unknown key"),
        (lambda a: export("a", str(a) + ".missing"), "No such file"),
        (lambda a: export("a", a) + export("a", a), "two exports are called"),
        (lambda a: export("a", a) + export("twice", a), "it is locked"),
    ],
)
def test_a_bad_configuration_changes_nothing_and_says_why(serve, tmp_path, disks, broken, why):
    a, b, _ = disks
    server, configuration = start(serve, tmp_path, export("a", a), export("b", b))
    with server.client("b") as client:
        outcome = configuration.reload(server, broken(a))
        assert "stays as it was" in outcome and why in outcome, outcome
        client.write(4096, b"x" * 100)
        with server.client("b") as another, server.client("a"):
            assert another.read(4096, 100) == b"x" * 100
    assert "added: none; changed: none; removed: none" in configuration.reload(
        server, export("a", a), export("b", b)
    )
    server.stop()


def test_a_file_in_use_is_not_served_in_two_ways_at_once(serve, tmp_path, disks):
    a, _, _ = disks
    server, configuration = start(serve, tmp_path, export("a", a))
    with server.client("a"):
        outcome = configuration.reload(server, export("a", a, offset=4096))
        assert "1 client is still on it" in outcome
    outcome = configuration.reload(server, export("a", a, offset=4096))
    assert "changed: a" in outcome
    with server.client("a") as client:
        assert client.size == 2 * MIB - 4096
        assert client.read(0, 100) == a.read_bytes()[4096:4196]
    server.stop()


def test_a_read_only_export_becomes_writable(serve, tmp_path, disks):
    a, _, _ = disks
    server, configuration = start(serve, tmp_path, export("a", a, read_only=True))
    assert "changed: a" in configuration.reload(server, export("a", a))
    with server.client("a") as client:
        client.write(0, b"w" * 100)
    assert images.is_locked(a)
    server.stop()
    assert a.read_bytes()[:100] == b"w" * 100


def test_keys_that_need_a_restart_are_named(serve, tmp_path, disks):
    server, configuration = start(serve, tmp_path, export("a", disks[0]))
    configuration.head = f'workers = 7\ncontrol.socket = "{tmp_path}/control.sock"\n'
    configuration.reload(server, export("a", disks[0]))
    server.wait_for_log("not in use before a restart: the new values of workers, control.socket\n")
    with server.client("a") as client:
        client.read(0, 512)
    server.stop()


def test_listen_addresses_come_and_go(serve, tmp_path, disks):
    second = tmp_path / "second.sock"
    configuration = Configuration(tmp_path / "loopnbd.toml", export("a", disks[0]))
    first = tmp_path / "first.sock"
    configuration.head = f'listen = ["unix:{first}"]\n'
    configuration.write(export("a", disks[0]))
    server = serve("--config", configuration.path, listen=None, address=str(first))
    configuration.head = f'listen = ["unix:{second}"]\nworkers = 7\n'
    configuration.reload(server, export("a", disks[0]))
    server.wait_for_log("not in use before a restart: the new values of workers")
    assert second.exists() and not first.exists()
    server.address = str(second)
    with server.client("a") as client:
        client.read(0, 512)
    server.stop()


@pytest.mark.workers
def test_32_connections_write_with_verification_while_the_configuration_is_replaced(
    serve, tmp_path, disks
):
    a, b, c = disks
    server, configuration = start(
        serve, tmp_path, export("a", a), export("b", b), head="workers = 4"
    )
    region = 2 * MIB // 16
    stop = threading.Event()
    connected = threading.Barrier(33, timeout=WAIT_SECONDS)

    def writer(number):
        def run():
            name = "ab"[number % 2]
            begin = number // 2 * region
            with server.client(name) as client:
                connected.wait()
                generation = 0
                while not stop.is_set() or generation < 3:
                    data = bytes([(number + generation) % 251]) * 5000
                    offset = begin + generation * 1000 % (region - 5000)
                    client.write(offset, data)
                    assert client.read(offset, 5000) == data
                    generation += 1

        return run

    def replacer():
        try:
            connected.wait()  # afterwards there may be no "b" to connect to
            for number in range(12):
                exports = [export("a", a, description=f"number {number}"), export("b", b)]
                if number % 3 == 0:
                    exports = exports[:1]  # b is no longer offered; its clients go on
                if number % 2:
                    exports.append(export("c", c))
                configuration.reload(server, *exports)
        finally:
            stop.set()

    with server.client("a"), server.client("b"):
        run_all([*[writer(number) for number in range(32)], replacer])
    server.stop()


@pytest.mark.parametrize("read_only", [False, True])
def test_an_image_that_was_replaced_by_rename_is_offered_after_a_reload(
    serve, tmp_path, disks, read_only
):
    path, _, other = disks
    former, newer = path.read_bytes(), other.read_bytes()
    offered = export("disk", path, read_only=read_only)
    head = f'[control]\nsocket = "{tmp_path}/ctl.sock"'
    server, configuration = start(serve, tmp_path, offered, head=head)
    control = Control(tmp_path / "ctl.sock")
    with server.client("disk") as old:
        assert not control.export("disk")["file_replaced"]
        other.rename(path)
        server.wait_until(lambda: control.export("disk")["file_replaced"], "the status to say so")
        assert "REPLACED" in control.text("status")
        assert not images.is_locked(path)
        assert "changed: disk" in configuration.reload(server, offered)
        assert "is another file than before" in server.log()
        assert ("what they write is not in the new one" in server.log()) != read_only
        assert images.is_locked(path)
        assert old.read(0, 4096) == former[:4096]
        with server.client("disk") as new:
            assert new.read(0, 4096) == newer[:4096]
        server.wait_until(lambda: not control.export("disk")["file_replaced"])
        assert "changed: none" in configuration.reload(server, offered)
    server.stop()


def test_a_reload_says_when_it_takes_away_what_ctl_had_added(serve, tmp_path, disks):
    head = f'[control]\nsocket = "{tmp_path}/ctl.sock"'
    server, configuration = start(serve, tmp_path, export("a", disks[0]), head=head)
    control = Control(tmp_path / "ctl.sock")
    control.text("add", f"added={disks[1]}")
    assert "removed: added" in configuration.reload(server, export("a", disks[0]))
    assert 'export "added" is no longer offered: the configuration does not have it' in server.log()
    server.stop()


def test_a_refused_reload_leaves_the_locks_where_they_were(serve, tmp_path, disks):
    """Whether there are clients, or another export is at fault."""
    a, b, _ = disks
    exports = {True: export("disk", a, read_only=True), False: export("disk", a)}
    for read_only, refusal in ((True, "client"), (False, "client"), (True, "missing")):
        server, configuration = start(serve, tmp_path, exports[read_only])
        with server.client("disk"):
            missing = [export("missing", tmp_path / "missing.img")] if refusal == "missing" else []
            outcome = configuration.reload(server, exports[not read_only], *missing)
            assert "stays as it was" in outcome and refusal in outcome
            # Another server may do what it could before.
            second = Configuration(tmp_path / "second.toml", exports[False])
            assert run("check-config", second.path).returncode != 0
            second.write(exports[True])
            assert (run("check-config", second.path).returncode == 0) == read_only
        server.stop()
