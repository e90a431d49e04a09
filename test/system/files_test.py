"""Files behind exports: sizes, windows, alignment, modes, locks, and files that change or run
out.
"""

import os

import pytest

from support import images, nbd_client, server, tracing
from support.nbd_client import (
    CMD_FLUSH,
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    CMD_WRITE_ZEROES,
    EIO,
    EPERM,
    ENOSPC,
    FUA,
    NO_HOLE,
)
from support.parallel import run_all

MODES = ["auto", "off"]


@pytest.fixture(params=MODES)
def direct_io(request):
    return request.param


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4095, 4096, 4097, 65537, 1000003])
def test_the_exact_size_of_the_file_is_exported_and_kept(serve, tmp_path, direct_io, size):
    path = images.make_image(tmp_path / "odd.img", size)
    expected = bytearray(path.read_bytes())
    running = serve("--direct-io", direct_io, path)
    with running.client() as client:
        assert client.size == size
        assert client.read(0, size) == expected
        assert client.read(size - 1, 1) == expected[-1:]
        expected[-1] ^= 0xFF
        client.write(size - 1, expected[-1:])
        length = min(size, 5000)
        expected[-length:] = images.random_bytes(length, seed=3)
        client.write(size - length, expected[-length:], FUA)
        assert client.error(CMD_WRITE_ZEROES, size - 1, 1, NO_HOLE) == 0
        expected[-1] = 0
        assert client.read(0, size) == expected
        assert client.error(CMD_TRIM, 0, size) == 0
        assert client.error(CMD_WRITE, size, 1, 0, b"x") == ENOSPC
        client.flush()
    assert path.stat().st_size == size


def test_no_thread_waits_for_the_disk_when_a_write_into_a_hole_has_to_allocate(serve, tmp_path):
    path = images.make_sparse_image(tmp_path / "sparse.img", 4 * images.MIB)
    running = serve("--direct-io", "on", path)
    trace = tmp_path / "trace"
    blocks = [images.random_bytes(4096, seed) for seed in range(32)]
    with running.client() as client:
        with tracing.system_calls(running, trace, "io_submit", "pwrite64", "pwritev2", "pread64"):
            for index, block in enumerate(blocks):
                client.write(index * 65536, block)
                assert client.read(index * 65536, 65536) == block + bytes(61440)
        client.flush()
    calls = trace.read_text()
    assert calls.count("io_submit(") >= 64
    assert "pwrite" not in calls, calls
    for index, block in enumerate(blocks):
        assert path.read_bytes()[index * 65536 :][:4096] == block


def test_an_empty_file_is_refused_with_what_to_do(tmp_path):
    path = images.make_sparse_image(tmp_path / "empty.img", 0)
    result = server.run("serve", "--listen", f"unix:{tmp_path}/nbd.sock", path)
    assert result.returncode > 0
    assert str(path) in result.stderr and "truncate" in result.stderr


@pytest.mark.parametrize(
    "arguments, begin, end",
    [
        (["--offset", "1M"], 1 << 20, 4 << 20),
        (["--size", "1M"], 0, 1 << 20),
        (["--offset", "1M", "--size", "2M"], 1 << 20, 3 << 20),
        (["--offset", "64K", "--size", "1234567"], 65536, 65536 + 1234567),
    ],
)
def test_a_window_into_the_file_is_served_and_nothing_else_touched(
    serve, image, direct_io, arguments, begin, end
):
    expected = bytearray(image.read_bytes())
    with serve("--direct-io", direct_io, *arguments, image).client() as client:
        assert client.size == end - begin
        assert client.read(0, end - begin) == expected[begin:end]
        for offset, length in ((0, 100), (end - begin - 100, 100), (5000, 70000)):
            data = images.random_bytes(length, seed=offset)
            client.write(offset, data)
            expected[begin + offset : begin + offset + length] = data
        assert client.error(CMD_WRITE_ZEROES, end - begin - 4000, 4000) == 0
        expected[end - 4000 : end] = bytes(4000)
        assert client.error(CMD_WRITE, end - begin, 1, 0, b"x") == ENOSPC
        client.flush()
    assert image.read_bytes() == expected


def test_a_window_off_the_block_size_works_buffered_and_is_refused_or_exact_when_direct(
    serve, image
):
    content = image.read_bytes()
    with serve("--direct-io", "off", "--offset", "1000", image).client() as client:
        assert client.read(0, 5000) == content[1000:6000]
    result = server.run(
        "serve",
        "--direct-io",
        "on",
        "--offset",
        "1000",
        "--listen",
        f"unix:{image.parent}/other.sock",
        image,
    )
    assert result.returncode > 0 and "1000" in result.stderr and str(image) in result.stderr


def test_small_writes_on_a_loop_device_of_any_block_size_are_exact(serve, loop_device, direct_io):
    size = 8 << 20
    with open(loop_device, "rb") as file:
        expected = bytearray(file.read())
    running = serve("--direct-io", direct_io, loop_device)
    with running.client() as client:
        assert client.size == size
        for index in range(200):
            offset, length = index * 512 * 7 % (size - 8192), 512 * (1 + index % 9)
            data = images.random_bytes(length, seed=index)
            client.write(offset, data, FUA if index % 10 == 0 else 0)
            expected[offset : offset + length] = data
        for offset, length in ((1, 1), (4095, 2), (size - 513, 513), (1 << 20, 4096 * 3)):
            client.write(offset, b"q" * length)
            expected[offset : offset + length] = b"q" * length
        assert client.error(CMD_WRITE_ZEROES, (2 << 20) + 512, 70000) == 0
        expected[(2 << 20) + 512 : (2 << 20) + 512 + 70000] = bytes(70000)
        assert client.error(CMD_TRIM, 4 << 20, 1 << 20) == 0
        left = client.read(0, size)
        assert left[: 4 << 20] == expected[: 4 << 20] and left[5 << 20 :] == expected[5 << 20 :]
        client.flush()
    running.stop()
    with open(loop_device, "rb") as file:
        assert file.read() == left


def test_the_mode_in_effect_is_visible(serve, image, tmp_path):
    other = images.make_image(tmp_path / "other.img", 4096)
    assert "buffered" in serve("--direct-io", "off", image).stop()
    assert "direct" in serve("--direct-io", "on", other).stop()


@pytest.fixture
def ramfs(tmp_path, root_only):
    """A file system that refuses O_DIRECT."""
    with images.mounted("ramfs", "none", tmp_path / "ramfs") as folder:
        yield folder


def test_direct_io_on_is_refused_where_it_is_impossible(ramfs):
    path = images.make_image(ramfs / "disk.img", 1 << 20)
    result = server.run("serve", "--direct-io", "on", "--listen", f"unix:{ramfs}/nbd.sock", path)
    assert result.returncode > 0
    assert str(path) in result.stderr and "direct" in result.stderr


def test_direct_io_auto_falls_back_with_one_log_line(serve, ramfs):
    path = images.make_image(ramfs / "disk.img", 1 << 20)
    content = path.read_bytes()
    running = serve(path)
    with running.client() as client:
        assert client.read(0, 1 << 20) == content
        client.write(1000, b"hello")
        assert client.read(999, 7) == content[999:1000] + b"hello" + content[1005:1006]
    assert "buffered" in running.stop()


def test_a_file_that_shrinks_under_the_server_is_eio_and_a_log_line(serve, image, direct_io):
    content = image.read_bytes()
    running = serve("--direct-io", direct_io, image)
    with running.client() as client:
        assert client.read(0, 4096) == content[:4096]
        os.truncate(image, 1 << 20)
        assert client.error(CMD_READ, 2 << 20, 4096) == EIO
        assert client.error(CMD_READ, (1 << 20) - 512, 1024) == EIO
        assert client.read(0, 1 << 20) == content[: 1 << 20]
    running.wait_for_log(r"disk\.img.*(shr|short|smaller)|(shr|short|smaller).*disk\.img")


def test_no_space_is_enospc_and_what_was_written_stays(serve, tmp_path, root_only, direct_io):
    with images.mounted("tmpfs", "none", tmp_path / "small", "size=2M") as folder:
        path = images.make_sparse_image(folder / "disk.img", 8 << 20)
        running = serve("--direct-io", direct_io, path)
        with running.client() as client:
            client.write(0, b"a" * (1 << 20))
            errors = {
                client.error(CMD_WRITE, offset, 1 << 20, 0, b"b" * (1 << 20))
                for offset in range(1 << 20, 8 << 20, 1 << 20)
            }
            assert ENOSPC in errors and errors <= {0, ENOSPC}
            assert client.read(0, 1 << 20) == b"a" * (1 << 20)
        running.stop()


def test_no_space_on_a_real_file_system_is_enospc(serve, tmp_path, root_only):
    backing = images.make_sparse_image(tmp_path / "ext4.img", 16 << 20)
    images.command("mke2fs", "-q", "-t", "ext4", backing)
    with images.mounted("ext4", backing, tmp_path / "small", "loop") as folder:
        path = images.make_sparse_image(folder / "disk.img", 64 << 20)
        running = serve(path)
        with running.client() as client:
            errors = {
                client.error(CMD_WRITE, offset, 1 << 20, FUA, b"b" * (1 << 20))
                for offset in range(0, 64 << 20, 1 << 20)
            }
            assert errors == {0, ENOSPC}
            client.error(CMD_FLUSH)
        running.stop()


def test_a_disk_that_fills_up_under_clients_loses_nothing_and_goes_on(
    serve, tmp_path, root_only, direct_io
):
    """Eight clients fill their parts of an image that the file system has no room for."""
    backing = images.make_sparse_image(tmp_path / "ext4.img", 32 << 20)
    images.command("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", backing)
    part, unit = 8 << 20, 256 << 10
    with images.mounted("ext4", backing, tmp_path / "small", "loop") as folder:
        path = images.make_sparse_image(folder / "disk.img", 8 * part)
        ballast = images.make_image(folder / "ballast", 8 << 20)
        running = serve("--direct-io", direct_io, path)
        written, failed = {}, set()

        def write(client, offset, generation):
            data = images.random_bytes(unit, offset + generation)
            error = client.error(CMD_WRITE, offset, unit, 0, data)
            assert error in (0, ENOSPC)
            if error == 0:
                written[offset] = data
                assert client.read(offset, unit) == data
            return error

        def fill(number):
            def run():
                with running.client() as client:
                    for offset in range(number * part, (number + 1) * part, unit):
                        if write(client, offset, 1):
                            failed.add(offset)
                        elif offset % 3 == 0:
                            assert write(client, offset, 2) == 0  # it has its room already

            return run

        run_all([fill(number) for number in range(8)])
        assert len(written) > 20 and len(failed) > 20
        running.wait_for_log("No space left")
        ballast.unlink()
        with running.client() as client:
            retried = [write(client, offset, 3) for offset in sorted(failed)]
            assert 0 in retried
            client.flush()
            for offset, data in written.items():
                assert client.read(offset, unit) == data
        running.stop()
        with path.open("rb") as file:
            for offset, data in written.items():
                file.seek(offset)
                assert file.read(unit) == data, offset


def test_read_only_serves_a_file_that_cannot_be_written(serve, image):
    image.chmod(0o400)
    with serve("--read-only", image).client() as client:
        assert client.transmission_flags & nbd_client.FLAG_READ_ONLY
        assert client.read(0, 4096) == image.read_bytes()[:4096]
        assert client.error(CMD_WRITE, 0, 512, 0, bytes(512)) == EPERM


def refused(image, *arguments):
    result = server.run("serve", *arguments, "--listen", f"unix:{image.parent}/second.sock", image)
    assert result.returncode > 0
    return result.stderr


def test_a_second_writer_of_the_image_is_refused(serve, image):
    serve(image)
    message = refused(image)
    assert str(image) in message and "lock" in message
    assert refused(image, "--read-only")


def test_readers_share_an_image_and_keep_writers_out(serve, image):
    serve("--read-only", image)
    with serve("--read-only", image).client() as client:
        assert client.size
    assert str(image) in refused(image)


def test_lock_false_lets_two_servers_share_an_image(serve, image, tmp_path):
    serve(image)
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[[export]]\npath = "{image}"\nlock = false\n')
    with serve("--config", config).client() as client:
        assert client.read(0, 512) == image.read_bytes()[:512]


def test_the_lock_ends_with_the_server(serve, image):
    serve(image).stop()
    serve(image).stop()


def test_two_exports_are_two_windows_of_one_file(tmp_path, image, serve):
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        "".join(
            f'[[export]]\nname = "{name}"\npath = "{image}"\n'
            f'offset = "{offset}"\nsize = "1M"\nlock = false\n'
            for name, offset in (("one", "0"), ("two", "1M"))
        )
    )
    running = serve("--config", config)
    with running.client("one") as one, running.client("two") as two:
        one.write((1 << 20) - 512, b"1" * 512)
        two.write(0, b"2" * 512)
        assert one.read((1 << 20) - 512, 512) == b"1" * 512
        one.flush()
        two.flush()
    assert image.read_bytes()[(1 << 20) - 512 : (1 << 20) + 512] == b"1" * 512 + b"2" * 512
