"""`partition`: one partition of an image as an export, found in tables that sfdisk has made."""

import json
import os
import pathlib
import stat

import pytest

from support import images, server

DISK_SIZE = 64 * images.MIB
GPT = """label: gpt
start=2048, size=8192, type=linux, name=boot, uuid=6e3a8b52-7b5e-4a43-9d0c-0e7a1f4b2c11
start=10240, size=20480, type=linux, name="root fs"
start=30720, size=2048, type=linux, name=twin
start=32768, size=2048, type=linux, name=twin
"""
MBR = """label: dos
label-id: 0x1234abcd
start=2048, size=8192, type=83
start=12288, size=81920, type=5
start=14336, size=20480, type=83
start=38912, size=40960, type=83
"""


def partitioned(path, script, device=None):
    """Random bytes and a table; returns number -> (offset, size) in bytes, as sfdisk has them."""
    if device is None:
        images.make_image(path, DISK_SIZE)
    images.command("sfdisk", "--quiet", device or path, input=script)
    table = json.loads(images.command("sfdisk", "--json", device or path))["partitiontable"]
    unit = table["sectorsize"]
    numbers = [int(entry["node"].rsplit("p" if device else ".img", 1)[1].lstrip("p"))
               for entry in table["partitions"]]
    return {
        number: (entry["start"] * unit, entry["size"] * unit)
        for number, entry in zip(numbers, table["partitions"])
    }


@pytest.fixture
def disk(tmp_path):
    return tmp_path / "disk.img"


def assert_serves(running, disk, window):
    offset, size = window
    with running.client() as client:
        assert client.size == size
        content = disk.read_bytes()[offset : offset + size]
        assert client.read(0, images.MIB) == content[: images.MIB]
        assert client.read(size - 4096, 4096) == content[-4096:]


@pytest.mark.parametrize(
    "wanted, number",
    [
        ("1", 1),
        ("2", 2),
        ("boot", 1),
        ("root fs", 2),
        ("6e3a8b52-7b5e-4a43-9d0c-0e7a1f4b2c11", 1),
        ("6E3A8B52-7B5E-4A43-9D0C-0E7A1F4B2C11", 1),
    ],
)
def test_a_gpt_partition_is_found_by_number_label_and_uuid(serve, disk, wanted, number):
    windows = partitioned(disk, GPT)
    running = serve("--partition", wanted, disk)
    assert_serves(running, disk, windows[number])
    assert f"partition {wanted}" in running.wait_for_log("export .*").string


@pytest.mark.parametrize("wanted, number", [("1", 1), ("5", 5), ("6", 6), ("1234abcd-06", 6)])
def test_an_mbr_partition_is_found_by_number_and_uuid(serve, disk, wanted, number):
    windows = partitioned(disk, MBR)
    assert_serves(serve("--partition", wanted, disk), disk, windows[number])


@pytest.mark.parametrize("key", ["2", '"2"', '"root fs"'])
def test_the_configuration_names_a_partition(disk, tmp_path, key):
    windows = partitioned(disk, GPT)
    path = tmp_path / "nbd.sock"
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        f'listen = ["unix:{path}"]\n[[export]]\npath = "{disk}"\npartition = {key}\n'
    )
    running = server.Server(["--config", config], str(path)).wait_until_listening()
    assert_serves(running, disk, windows[2])
    running.stop()


def test_what_is_written_to_two_partitions_stays_in_them(tmp_path, disk):
    windows = partitioned(disk, GPT)
    before = disk.read_bytes()
    path = tmp_path / "nbd.sock"
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        f'listen = ["unix:{path}"]\n'
        f'[[export]]\nname = "a"\npath = "{disk}"\npartition = 1\n'
        f'[[export]]\nname = "b"\npath = "{disk}"\npartition = 2\n'
    )
    running = server.Server(["--config", config], str(path)).wait_until_listening()
    expected = bytearray(before)
    for name, letter in (("a", b"A"), ("b", b"B")):
        offset, size = windows[1 if name == "a" else 2]
        with running.client(name) as client:
            for start in range(0, size, 2 * images.MIB):
                client.write(start, letter * min(2 * images.MIB, size - start))
            client.flush()
        expected[offset : offset + size] = letter * size
    running.stop()
    assert disk.read_bytes() == bytes(expected)


def test_the_backup_of_a_damaged_gpt_is_used(serve, disk):
    windows = partitioned(disk, GPT)
    with open(disk, "r+b") as file:
        file.seek(512)
        file.write(b"\xff" * 512)
    assert_serves(serve("--partition", "boot", disk), disk, windows[1])


def test_the_image_of_a_disk_with_4096_byte_sectors_is_understood(serve, disk, root_only):
    images.make_image(disk, DISK_SIZE)
    with images.loop_device(disk, "--sector-size", "4096") as device:
        windows = partitioned(disk, "label: gpt\nsize=8MiB, name=a\nname=b\n", device)
    assert_serves(serve("--partition", "b", disk), disk, windows[2])


def test_a_partition_of_a_block_device_is_served(serve, disk, root_only):
    windows = partitioned(disk, GPT)
    with images.loop_device(disk) as device:
        running = serve("--partition", "root fs", device)
        assert_serves(running, disk, windows[2])
        running.stop()


@pytest.fixture
def disk_and_partition(disk, tmp_path, root_only):
    """Nodes of a disk and of its first partition."""
    partitioned(disk, GPT)
    with images.loop_device(disk) as device:
        images.command("partx", "--add", device)
        number = pathlib.Path(f"/sys/block/{device.name}/{device.name}p1/dev").read_text()
        node = tmp_path / "partition"
        major, minor = number.split(":")
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
        yield device, node
        images.command("partx", "--delete", device)


def test_a_disk_and_its_partition_are_not_written_side_by_side(
    serve, disk_and_partition, tmp_path
):
    listen = ["serve", "--listen", f"unix:{tmp_path}/other.sock"]
    for one, other in (disk_and_partition, disk_and_partition[::-1]):
        running = serve(one)
        result = server.run(*listen, other)
        assert result.returncode == 1 and "is in use" in result.stderr, result.stderr
        running.stop()
        config = tmp_path / "both.toml"
        config.write_text(
            f'listen = ["unix:{tmp_path}/other.sock"]\n[[export]]\npath = "{one}"\n'
            f'[[export]]\npath = "{other}"\nread_only = true\n'
        )
        result = server.run("serve", "--config", config)
        assert result.returncode == 1 and "disk or a partition of it" in result.stderr
    both = serve("--read-only", f"disk={disk_and_partition[0]}", f"part={disk_and_partition[1]}")
    with both.client("part") as client:
        assert client.size == 4 * images.MIB
    both.stop()  # so that the partition can be taken away


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_an_image_that_was_cut_short_serves_the_partitions_that_it_holds(
    serve, disk, tmp_path, sector_size
):
    script = "label: gpt\nstart=8MiB, size=8MiB, name=a\nstart=16MiB, size=32MiB, name=b\n"
    images.make_image(disk, DISK_SIZE)
    options = ["--sector-size", str(sector_size)]
    # sfdisk's own option for the sectors of an image is younger than Debian 12.
    if sector_size == 512:
        windows = partitioned(disk, script)
    elif os.geteuid() == 0:
        with images.loop_device(disk, *options) as device:
            windows = partitioned(disk, script, device)
    else:
        pytest.skip("loop devices need root")
    os.truncate(disk, 20 * images.MIB)
    assert_serves(serve("--partition", "a", disk), disk, windows[1])
    listen = ["--listen", f"unix:{tmp_path}/other.sock"]
    result = server.run("serve", *listen, "--partition", "b", disk)
    assert result.returncode == 1 and "cut short" in result.stderr, result.stderr
    result = server.run("serve", *listen, "--partition", "c", disk)
    assert result.returncode == 1 and 'label "a"' in result.stderr, result.stderr


# argument, words of the refusal
REFUSED = {
    "missing number": ("9", ["\"9\"", '1 (4194304 bytes at 1048576, label "boot"', '"root fs"']),
    "missing label": ("home", ["label or UUID", "home", "boot"]),
    "ambiguous label": ("twin", ["several", "number"]),
    "empty": ("", ["partition"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_partition_is_refused_with_those_there_are(disk, case):
    wanted, words = REFUSED[case]
    partitioned(disk, GPT)
    result = server.run("serve", "--partition", wanted, disk)
    assert result.returncode > 0
    for word in words:
        assert word in result.stderr, result.stderr


def test_a_table_that_is_destroyed_is_refused(disk):
    partitioned(disk, GPT)
    with open(disk, "r+b") as file:
        for place in (512, DISK_SIZE - 512):
            file.seek(place)
            file.write(b"\xff" * 512)
    result = server.run("serve", "--partition", "1", disk)
    assert result.returncode > 0 and "disk.img" in result.stderr


@pytest.mark.parametrize("flag", ["--offset", "--size"])
def test_a_partition_and_a_window_contradict_each_other(disk, flag):
    partitioned(disk, GPT)
    result = server.run("serve", "--partition", "1", flag, "1M", disk)
    assert result.returncode > 0 and "leave out" in result.stderr


def test_the_refusal_names_line_and_key_of_the_configuration(disk, tmp_path):
    partitioned(disk, GPT)
    config = tmp_path / "loopnbd.toml"
    for partition, more, words in (
        ("7", "", "no partition has the number"),
        ("1", 'size = "1M"\n', "leave out"),
        ("0", "", "number, label or UUID"),
        ("true", "", "number, label or UUID"),
        ('""', "", "number, label or UUID"),
    ):
        config.write_text(f'[[export]]\npath = "{disk}"\npartition = {partition}\n{more}')
        result = server.run("check-config", config)
        assert result.returncode > 0
        assert f"{config}:3: export[0].partition: " in result.stderr, result.stderr
        assert words in result.stderr
