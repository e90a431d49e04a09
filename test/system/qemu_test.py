"""qemu-img and qemu-io of two releases, over TCP and Unix sockets."""

import contextlib
import json
import os
import select
import signal
import subprocess

import pytest

from support import images, server
from support.server import WAIT_SECONDS

pytestmark = pytest.mark.usefixtures("release")


@pytest.fixture(params=["unix", "tcp"])
def listen(request):
    return request.param


def qemu_io(uri, *commands, options=()):
    """Runs qemu-io; a pattern that does not match, or any failed command, fails the test."""
    arguments = [part for line in commands for part in ("-c", line)]
    output = images.command("qemu-io", "-f", "raw", *options, *arguments, uri)
    assert "failed" not in output and "error" not in output.lower(), output
    return output


def test_qemu_img_info_tells_the_size(serve, image, listen):
    server = serve(f"disk={image}", listen=listen)
    information = json.loads(
        images.command("qemu-img", "info", "--output=json", server.uri("disk"))
    )
    assert information["virtual-size"] == image.stat().st_size and information["format"] == "raw"


def test_qemu_img_compare_finds_a_copy_and_the_export_identical(serve, image, tmp_path, listen):
    copy = images.make_image(tmp_path / "copy.img", image.stat().st_size)
    server = serve(image, listen=listen)
    output = images.command("qemu-img", "compare", "-f", "raw", "-F", "raw", copy, server.uri())
    assert "identical" in output


def test_qemu_img_compare_finds_one_changed_byte(serve, image, tmp_path):
    other = bytearray(image.read_bytes())
    other[3000000] ^= 1
    (tmp_path / "other.img").write_bytes(other)
    server = serve(image)
    result = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "raw", tmp_path / "other.img", server.uri()],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert result.returncode == 1 and "mismatch" in result.stdout


@pytest.mark.workers
def test_qemu_img_convert_copies_into_and_out_of_exports(serve, image, tmp_path, listen):
    source = serve(image, listen=listen)
    qcow2 = tmp_path / "copy.qcow2"
    images.qemu_convert(source.uri(), qcow2, "-m8", "-W", formats=("raw", "qcow2"))
    target_image = images.make_sparse_image(tmp_path / "target.img", image.stat().st_size)
    target = serve(target_image, listen=listen)
    images.qemu_convert(qcow2, target.uri(), "-n", "-m8", "-W", formats=("qcow2", "raw"))
    assert images.sha256(target_image) == images.sha256(image)


def test_qemu_img_convert_of_a_sparse_image_writes_zeroes_over_old_data(serve, tmp_path):
    source = images.make_sparse_image(tmp_path / "source.img", 8 << 20)
    with open(source, "r+b") as file:
        file.seek(5 << 20)
        file.write(b"data")
    target = images.make_image(tmp_path / "target.img", 8 << 20)
    server = serve(target)
    images.qemu_convert(source, server.uri(), "-n")
    assert images.sha256(target) == images.sha256(source)


def test_qemu_img_map_tells_data_and_holes(serve, tmp_path):
    path = images.make_sparse_image(tmp_path / "sparse.img", 4 << 20)
    with open(path, "r+b") as file:
        file.seek(1 << 20)
        file.write(images.random_bytes(1 << 20))
    server = serve(path)
    extents = json.loads(
        images.command("qemu-img", "map", "--output=json", "-f", "raw", server.uri())
    )
    assert [
        (extent["start"], extent["length"], extent["data"], extent["zero"]) for extent in extents
    ] == [
        (0, 1 << 20, False, True),
        (1 << 20, 1 << 20, True, False),
        (2 << 20, 2 << 20, False, True),
    ]


@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_qemu_io_patterns_are_read_back_at_any_alignment(serve, image, listen, direct_io):
    server = serve("--direct-io", direct_io, image, listen=listen)
    qemu_io(
        server.uri(),
        "write -P 0xa1 0 64k",
        "write -P 0xb2 513 1025",
        "write -P 0xc3 4095 2",
        "write -P 0xd4 1048575 3",
        "read -P 0xa1 0 513",
        "read -P 0xb2 513 1025",
        "read -P 0xa1 1538 2557",
        "read -P 0xc3 4095 2",
        "read -P 0xa1 4097 61439",
        "read -P 0xd4 1048575 3",
        "flush",
    )
    content = image.read_bytes()
    assert content[513:1538] == b"\xb2" * 1025 and content[4095:4097] == b"\xc3\xc3"


def test_qemu_io_writes_with_fua_discards_and_zeroes(serve, image):
    server = serve(image)
    qemu_io(
        server.uri(),
        "write -f -P 0x5a 0 1M",
        "write -z 64k 64k",
        "read -P 0 64k 64k",
        "write -z -u 130000 70000",
        "read -P 0 130000 70000",
        "read -P 0x5a 200000 100",
        "write -z -f 262144 512",
        "discard 512k 256k",
        "read -P 0x5a 768k 256k",
        "read -P 0x5a 0 64k",
        options=("-d", "unmap"),
    )
    content = image.read_bytes()
    assert content[:65536] == b"\x5a" * 65536 and content[65536:131072] == bytes(65536)


def test_qemu_io_keeps_many_requests_in_flight(serve, image):
    server = serve(image)
    writes = [f"aio_write -P {index} {index * 65536} 64k" for index in range(1, 60)]
    reads = [f"aio_read -P {index} {index * 65536} 64k" for index in range(1, 60)]
    qemu_io(server.uri(), *writes, "aio_flush", *reads, "aio_flush")


@pytest.mark.parametrize("cache", ["none", "writeback"])
def test_qemu_img_bench_writes_to_the_end(serve, image, listen, cache):
    server = serve(image, listen=listen)
    options = ("-f", "raw", "-t", cache, "-d", "64", "-s", "64k", "-S", "64k")
    images.command(
        "qemu-img", "bench", "-w", *options, "-c", "256", "--pattern=165", server.uri()
    )
    assert image.read_bytes() == b"\xa5" * image.stat().st_size


def test_qemu_io_is_told_about_a_read_only_export(serve, image):
    server = serve("--read-only", image)
    result = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", server.uri()],
        text=True,
        capture_output=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert result.returncode != 0
    assert image.read_bytes() == images.random_bytes(4 << 20)


def refused(server_arguments, *words):
    result = server.run("serve", *server_arguments)
    assert result.returncode == 1 and all(word in result.stderr for word in words), result.stderr


@contextlib.contextmanager
def qemu_has(image, folder, *options):
    """qemu-nbd with the image open, as long as the block runs."""
    pid_file = folder / "qemu-nbd.pid"
    socket = f"--socket={folder}/qemu-nbd.sock"
    images.command(
        "qemu-nbd", "--fork", f"--pid-file={pid_file}", socket, *options, "-f", "raw", image
    )
    process = os.pidfd_open(int(pid_file.read_text()))
    try:
        yield
    finally:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        assert select.select([process], [], [], WAIT_SECONDS)[0]
        os.close(process)


def test_an_image_that_is_served_read_only_is_read_by_qemu_beside_it(serve, image, tmp_path):
    overlay = tmp_path / "overlay.qcow2"
    images.command("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", overlay)
    running = serve("--read-only", image)
    qemu_io(image, "read 0 1M", options=("-r",))
    images.command("qemu-io", "-c", "write -P 7 0 64k", "-c", "read 1M 64k", overlay)
    images.command("qemu-img", "convert", "-f", "raw", "-O", "raw", image, tmp_path / "copy.img")
    assert (tmp_path / "copy.img").read_bytes() == image.read_bytes()
    writer = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", image],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert writer.returncode != 0 and "lock" in writer.stderr
    with running.client() as client:
        assert client.read(0, 4096) == image.read_bytes()[:4096]


def test_an_image_that_qemu_reads_is_served_read_only_and_not_for_writing(serve, image, tmp_path):
    with qemu_has(image, tmp_path, "--read-only"):
        refused(["--listen", f"unix:{tmp_path}/other.sock", image], "tool of qemu", "--no-lock")
        running = serve("--read-only", image)
        with running.client() as client:
            assert client.read(0, 4096) == image.read_bytes()[:4096]


def test_an_image_that_qemu_writes_is_not_served_even_for_reading(image, tmp_path):
    listen = ["--listen", f"unix:{tmp_path}/other.sock"]
    with qemu_has(image, tmp_path):
        refused([*listen, image], "has it open")
        refused([*listen, "--read-only", image], "open for writing", "--no-lock")


def test_qemu_neither_reads_nor_writes_an_image_that_is_served_for_writing(serve, image):
    serve(image)
    for options in (["-r"], []):
        result = subprocess.run(
            ["qemu-io", *options, "-f", "raw", "-c", "read 0 512", image],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert result.returncode != 0 and "lock" in result.stderr
