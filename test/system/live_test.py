"""The device under an export changes while clients are attached."""

import json
import signal
import subprocess
import threading
import time

import pytest

from support import images
from support.configuration import Configuration, export
from support.control import Control
from support.nbd_client import CMD_READ, CMD_WRITE, Disconnected, FUA
from support.parallel import run_all

MIB = images.MIB


@pytest.fixture
def control(tmp_path):
    return Control(tmp_path / "control.sock")


def writing(server, number, stop, region=256 * 1024):
    """A function that writes and reads its own region, with verification, until `stop` is set."""

    def run():
        begin = number * region
        shadow = bytearray(region)
        known = [False] * (region // 512)
        generation = 0
        with server.client() as client:
            while not stop.is_set() or generation < 5:
                offset = generation * 1536 % (region - 5120)
                length = (512, 700, 4096, 5000)[generation % 4]
                data = bytes([(number * 31 + generation) % 251 + 1]) * length
                client.write(begin + offset, data, FUA if generation % 50 == 0 else 0)
                shadow[offset : offset + length] = data
                for block in range((offset + 511) // 512, (offset + length) // 512):
                    known[block] = True
                assert client.read(begin + offset, length) == data
                generation += 1
            client.flush()
            content = client.read(begin, region)
        for block, written in enumerate(known):
            if written:
                here = slice(block * 512, block * 512 + 512)
                assert content[here] == shadow[here], (number, block)

    return run


def while_clients_write(server, count, change):
    """Runs `change` in the middle of verified writes by so many clients."""
    stop = threading.Event()

    def changing():
        try:
            change()
        finally:
            stop.set()

    run_all([*[writing(server, number, stop) for number in range(count)], changing])


@pytest.mark.workers
def test_direct_io_is_switched_on_and_off_under_verified_writes(serve, control, tmp_path):
    image = images.make_sparse_image(tmp_path / "disk.img", 4 * MIB)
    server = serve("--workers", "4", "--control", control.path, image)

    def switch():
        for mode, name in 6 * (("off", "buffered"), ("on", "direct")):
            control.text("direct-io", "disk.img", mode)
            assert control.export("disk.img")["mode"] == name

    while_clients_write(server, 8, switch)
    server.stop()


def test_direct_io_that_is_not_possible_leaves_the_export_as_it_was(serve, control, image):
    server = serve("--direct-io", "off", "--offset", "100", "--control", control.path, image)
    with server.client() as client:
        assert "direct I/O" in control.refusal("direct-io", "disk.img", "on")
        assert control.export("disk.img")["mode"] == "buffered"
        client.write(0, b"still" * 100)
        assert client.read(0, 500) == b"still" * 100
    assert images.is_locked(image)
    server.stop()


def test_a_file_that_has_taken_the_place_of_the_served_one_is_not_switched_to(
    serve, control, tmp_path, image
):
    server = serve("--control", control.path, image)
    with server.client() as client:
        image.rename(tmp_path / "served.img")
        images.make_image(image, 4 * MIB, seed=2)
        assert "another file" in control.refusal("direct-io", "disk.img", "off")
        assert "another file" in control.refusal("resize", "disk.img", "8M")
        client.write(0, b"s" * 4096)
    assert image.stat().st_size == 4 * MIB
    server.stop()
    assert (tmp_path / "served.img").read_bytes()[:4096] == b"s" * 4096
    assert image.read_bytes()[:4096] != b"s" * 4096


@pytest.mark.workers
def test_the_file_of_a_read_only_export_is_swapped_under_a_reading_client(
    serve, control, tmp_path, image
):
    other = images.make_image(tmp_path / "other.img", 4 * MIB, seed=2)
    contents = {path.read_bytes()[4096:8192] for path in (image, other)}
    server = serve("--read-only", "--control", control.path, image)
    stop = threading.Event()

    def read():
        with server.client() as client:
            while not stop.is_set():
                assert client.read(4096, 4096) in contents

    def swap():
        try:
            for path in 5 * (other, image):
                control.text("swap", "disk.img", path)
                with server.client() as client:
                    assert client.read(0, 4096) == path.read_bytes()[:4096]
                assert control.export("disk.img")["path"] == str(path)
        finally:
            stop.set()

    run_all([read, read, swap])
    server.stop()


def test_a_swapped_file_stays_when_a_reload_changes_something_else(
    serve, control, tmp_path, image
):
    other = images.make_image(tmp_path / "other.img", 4 * MIB, seed=2)
    head = f'[control]\nsocket = "{control.path}"\n'
    configuration = Configuration(
        tmp_path / "loopnbd.toml", export("a", image, read_only=True), head=head
    )
    server = serve("--config", configuration.path)
    control.text("swap", "a", other)
    configuration.write(export("a", image, read_only=True, description="words"))
    assert control.json("reload")["changed"] == ["a"]
    assert control.export("a")["path"] == str(other)
    with server.client("a") as client:
        assert client.read(0, 4096) == other.read_bytes()[:4096]
    server.stop()


def test_what_cannot_be_swapped_is_refused(serve, control, tmp_path, image):
    short = images.make_image(tmp_path / "short.img", MIB)
    server = serve("--read-only", "--control", control.path, image)
    assert "1048576 bytes" in control.refusal("swap", "disk.img", short)
    assert "No such file" in control.refusal("swap", "disk.img", tmp_path / "missing")
    with server.client() as client:
        assert client.read(0, 512) == image.read_bytes()[:512]
    server.stop()
    writable = serve("--control", control.path, image)
    assert "writable" in control.refusal("swap", "disk.img", short)
    writable.stop()


@pytest.mark.workers
def test_a_paused_export_can_be_copied_consistently(serve, control, tmp_path):
    """Each client keeps two places equal, the second written when the first was acknowledged."""
    image = images.make_sparse_image(tmp_path / "disk.img", 4 * MIB)
    server = serve("--workers", "4", "--control", control.path, image)
    stop = threading.Event()
    generations = [0] * 4

    def write(number):
        def run():
            with server.client() as client:
                while not stop.is_set():
                    generation = generations[number] + 1
                    data = bytes([generation % 256]) * 4096
                    client.write(number * 8192, data)
                    client.write(number * 8192 + 2 * MIB, data)
                    generations[number] = generation

        return run

    def pause():
        try:
            for _ in range(4):
                before = list(generations)
                server.wait_until(lambda: all(map(int.__gt__, generations, before)), "progress")
                control.text("pause", "disk.img")
                assert control.export("disk.img")["paused"]
                copy = image.read_bytes()
                again = image.read_bytes()
                control.text("resume", "disk.img")
                assert copy == again, "it changed while it was paused"
                for number in range(4):
                    first = copy[number * 8192]
                    second = copy[number * 8192 + 2 * MIB]
                    assert (first - second) % 256 in (0, 1), "a write overtook an older one"
        finally:
            stop.set()

    run_all([*[write(number) for number in range(4)], pause])
    server.stop()


def test_a_forgotten_pause_ends_by_itself(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        control.text("pause", "disk.img", "--for", "1")
        begin = time.monotonic()
        client.write(0, b"p" * 512)
        assert time.monotonic() - begin > 0.5, "the write was not held back"
    server.wait_for_log("resumed: it was paused for as long as it may be")
    assert "not paused" in control.refusal("resume", "disk.img")
    server.stop()


def test_a_paused_server_can_be_ended(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        control.text("pause", "disk.img")
        client.request(CMD_WRITE, 0, 512, payload=b"z" * 512)
        assert "is paused" in control.refusal("direct-io", "disk.img", "off")
        assert "is paused" in control.refusal("remove", "disk.img")
        server.stop()
        ((chunk,),) = client.replies(1).values()
        assert chunk.error == 0
    assert image.read_bytes()[:512] == b"z" * 512


def client_line(control):
    (line,) = control.json("connections")["connections"]
    return line


def test_a_pause_that_comes_while_the_server_ends_is_refused(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        for _ in range(16):  # more than the sockets hold
            client.request(CMD_READ, 0, 4 * MIB)
        server.wait_until(lambda: client_line(control)["in_flight"] > 1)
        server.signal(signal.SIGTERM)
        server.wait_for_log("finishing what is in flight")
        assert "the server is ending" in control.refusal("pause", "disk.img")
        assert control.json("status")["draining"]
        client.replies(1)
    server.wait()


@pytest.mark.parametrize("attempt", range(10))
def test_a_server_that_is_ended_in_the_middle_of_a_change_ends_well(
    serve, control, image, attempt
):
    server = serve("--control", control.path, image)
    with control.connect() as changing, control.connect() as ending:
        change = {"command": "direct-io", "export": "disk.img", "mode": ("on", "off")[attempt % 2]}
        changing.sendall(json.dumps(change).encode() + b"\n")
        ending.sendall(b'{"command": "drain"}\n')
        server.wait()


def test_new_connections_see_a_grown_export_and_old_ones_stay(serve, control, tmp_path):
    image = images.make_image(tmp_path / "disk.img", MIB)
    server = serve("--control", control.path, image)
    with server.client() as old:
        assert "2097152 bytes" in control.text("resize", "disk.img", "2M")
        with server.client() as new:
            assert (old.size, new.size) == (MIB, 2 * MIB)
            new.write(2 * MIB - 4096, b"n" * 4096)
            old.write(0, b"o" * 4096)
            assert new.read(0, 4096) == b"o" * 4096
        subprocess.run(["truncate", "-s", "3M", image], check=True)
        control.text("resize", "disk.img")
        with server.client() as newest:
            assert newest.size == 3 * MIB
        assert old.read(0, 4096) == b"o" * 4096
    assert images.is_locked(image)
    server.stop()
    assert image.read_bytes()[2 * MIB - 4096 : 2 * MIB] == b"n" * 4096


def test_shrinking_wants_force_and_ends_the_connections_that_know_more(serve, control, image):
    server = serve("--control", control.path, image)
    with server.client() as client:
        assert "--force" in control.refusal("resize", "disk.img", "1M")
        assert client.read(3 * MIB, 512) == image.read_bytes()[3 * MIB : 3 * MIB + 512]
        control.text("resize", "disk.img", "1M", "--force")
        assert client.is_closed()
    with server.client() as client:
        assert client.size == MIB
        assert client.error(CMD_READ, MIB, 512) != 0
    server.stop()
    assert image.stat().st_size == 4 * MIB, "the file itself is left alone"


def test_one_of_two_windows_of_a_file_grows_up_to_the_other(serve, control, tmp_path, image):
    head = f'[control]\nsocket = "{control.path}"\n'
    exports = [export("a", image, size=MIB), export("b", image, offset=2 * MIB, size=MIB)]
    configuration = Configuration(tmp_path / "loopnbd.toml", *exports, head=head)
    server = serve("--config", configuration.path)
    control.text("resize", "a", "2M")
    assert "locked" in control.refusal("resize", "a", "3M")
    assert "locked" in control.refusal("resize", "a")
    control.text("resize", "b")
    assert [control.export(name)["size_bytes"] for name in "ab"] == [2 * MIB, 2 * MIB]
    with server.client("a") as a, server.client("b") as b:
        a.write(2 * MIB - 512, b"a" * 512)
        b.write(0, b"b" * 512)
        assert a.read(2 * MIB - 512, 512) == b"a" * 512
    server.stop()
    assert image.read_bytes()[2 * MIB - 512 : 2 * MIB + 512] == b"a" * 512 + b"b" * 512


def test_what_cannot_be_resized_is_refused(serve, control, tmp_path, image):
    server = serve("--control", control.path, "--read-only", image)
    assert "5242880" in control.refusal("resize", "disk.img", "5M")
    assert "no export" in control.refusal("resize", "nothing", "5M")
    server.stop()
    assert image.stat().st_size == 4 * MIB
    writable = serve("--control", control.path, image)
    assert "bytes" in control.refusal("resize", "disk.img", "8000P")
    writable.stop()
    disk = images.make_sparse_image(tmp_path / "parted.img", 8 * MIB)
    images.command("sfdisk", "--quiet", disk, input="label: gpt\nsize=4096\n")
    parted = serve("--control", control.path, "--partition", "1", disk)
    assert "partition table" in control.refusal("resize", "parted.img", "16M")
    assert control.export("parted.img")["size_bytes"] == 2 * MIB
    parted.stop()
    assert disk.stat().st_size == 8 * MIB


@pytest.mark.workers
def test_an_export_grows_under_verified_writes(serve, control, tmp_path):
    image = images.make_sparse_image(tmp_path / "disk.img", 2 * MIB)
    server = serve("--workers", "3", "--control", control.path, image)

    def grow():
        for mebibytes in range(3, 9):
            control.text("resize", "disk.img", f"{mebibytes}M")

    while_clients_write(server, 6, grow)
    server.stop()


def rate_of(client, command, length, seconds, in_flight=8):
    """Requests a second that are answered without an error, over so many seconds."""
    payload = b"r" * length if command == CMD_WRITE else b""
    answered = 0
    begin = time.monotonic()
    for index in range(in_flight):
        client.request(command, index * length, length, payload=payload)
    while time.monotonic() - begin < seconds:
        (chunks,) = client.replies(1).values()
        assert chunks[-1].error == 0
        answered += 1
        client.request(command, answered % in_flight * length, length, payload=payload)
    rate = answered / (time.monotonic() - begin)
    client.replies(in_flight)
    return rate


@pytest.mark.workers
def test_limits_hold_clients_back_and_are_changed_while_they_wait(serve, control, tmp_path, image):
    limits = 'limits = { read_iops = 200, write_bytes = "1M" }'
    head = f'workers = 3\n[control]\nsocket = "{control.path}"\n'
    configuration = Configuration(tmp_path / "loopnbd.toml", export("a", image) + limits, head=head)
    server = serve("--config", configuration.path)
    rates = {}
    clients = [server.client() for _ in range(4)]

    def measure(name, *arguments):
        def run():
            rates[name] = rate_of(*arguments, seconds=3)

        return run

    run_all(
        [
            *[measure(f"read {number}", clients[number], CMD_READ, 4096) for number in range(3)],
            measure("write", clients[3], CMD_WRITE, 16384),
        ]
    )
    reads = [rates[f"read {number}"] for number in range(3)]
    assert 150 < sum(reads) < 250, rates
    assert min(reads) > 0.6 * max(reads), "not shared fairly"
    assert 48 < rates["write"] < 80, rates
    control.text("limit", "a", "--read-iops", "1")
    clients[0].request(CMD_READ, 0, 512)
    clients[0].request(CMD_READ, 0, 512)
    control.text("limit", "a", "--read-iops", "0", "--write-bytes", "0")
    clients[0].replies(2)
    assert "limits: none" in control.text("limit", "a", "--read-iops", "0")
    assert rate_of(clients[0], CMD_READ, 4096, seconds=1) > 400
    server.stop()


def test_a_client_has_limits_of_its_own(serve, control, image):
    server = serve("--control", control.path, image, listen="tcp")
    control.text("limit", "disk.img", "--per-client", "--write-iops", "100")
    with server.client() as one, server.client() as two:
        rates = []
        run_all([lambda c=c: rates.append(rate_of(c, CMD_WRITE, 512, 2)) for c in (one, two)])
        assert 75 < sum(rates) < 135, rates
        assert control.export("disk.img")["client_limits"]["write_iops"] == 100
    server.stop()


def test_a_limited_client_can_go_and_the_server_end(serve, control, image):
    server = serve("--control", control.path, image)
    control.text("limit", "disk.img", "--write-iops", "1", "--burst-seconds", "0")
    client = server.client()
    for index in range(3):
        client.request(CMD_WRITE, index * 512, 512, payload=b"x" * 512)
    client.close()
    with server.client() as other:
        assert other.read(0, 512)
        with pytest.raises((Disconnected, OSError)):
            control.text("disconnect", "--export", "disk.img")
            other.read(0, 512)
    server.stop()
