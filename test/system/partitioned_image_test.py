"""The main job: a partitioned disk with an ext4 file system of real files goes through the server
both ways.
"""

import shutil

import pytest

from support import images

pytestmark = pytest.mark.bulk

# Twice what the server has of memory, and its parts are as large as files are.
DISK_SIZE = 128 << 20
FILES_SIZE_MAX = 50 << 20


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The image, its partition's offset and size, and the hashes of its files. Nobody writes to
    it.
    """
    folder = tmp_path_factory.mktemp("original")
    collect_files(folder / "files")
    disk = folder / "disk.img"
    offset, length = images.make_partitioned_image(disk, folder / "files", DISK_SIZE)
    images.check_ext4(disk, offset)
    hashes = images.hashes_of_folder(folder / "files")
    assert len(hashes) > 300
    shutil.rmtree(folder / "files")
    yield disk, offset, length, hashes
    shutil.rmtree(folder)


def collect_files(target):
    """Programs and libraries of this machine, up to 50 MB, with folders, links and names as they
    come.
    """
    target.mkdir()
    left = FILES_SIZE_MAX
    for source in ("/usr/share/doc", "/usr/lib/python3", "/usr/lib/x86_64-linux-gnu", "/usr/bin"):
        for path in sorted(images.pathlib.Path(source).rglob("*")):
            copy = target / path.relative_to("/")
            if path.is_symlink():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(images.os.readlink(path))
            elif path.is_file() and path.stat().st_size < min(left, 8 << 20):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                left -= path.stat().st_size
            if left < 1 << 20:
                return


def assert_same(disk, original, scratch):
    """The copy is the original: same partition, fsck is content, every file has its hash."""
    _, offset, length, hashes = original
    assert images.partition_of(disk) == (offset, length)
    images.check_ext4(disk, offset)
    found = images.hashes_of_ext4(disk, offset, length, scratch)
    assert found == hashes


@pytest.mark.parametrize("listen", ["unix", "tcp"])
@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_nbdcopy_out_and_in_again_keeps_every_file(serve, original, tmp_path, listen, direct_io):
    disk = original[0]
    source = serve("--direct-io", direct_io, "--read-only", disk, listen=listen)
    images.command(
        "nbdcopy", "--connections=4", "--requests=64", source.uri(), tmp_path / "out.img"
    )
    assert images.sha256(tmp_path / "out.img") == images.sha256(disk)

    copy = images.make_sparse_image(tmp_path / "copy.img", DISK_SIZE)
    target = serve("--direct-io", direct_io, copy, listen=listen)
    images.command("nbdcopy", "--connections=4", "--flush", tmp_path / "out.img", target.uri())
    target.stop()
    assert images.sha256(copy) == images.sha256(disk)
    assert_same(copy, original, tmp_path)


def test_nbdcopy_from_export_to_export_keeps_every_file(serve, original, tmp_path):
    source = serve("--read-only", original[0])
    copy = images.make_sparse_image(tmp_path / "copy.img", DISK_SIZE)
    target = serve(copy)
    images.command("nbdcopy", "--connections=4", "--flush", source.uri(), target.uri())
    target.stop()
    assert_same(copy, original, tmp_path)


def test_qemu_img_convert_through_qcow2_keeps_every_file(serve, original, tmp_path):
    source = serve("--read-only", original[0])
    qcow2 = tmp_path / "disk.qcow2"
    images.qemu_convert(source.uri(), qcow2, "-m16", "-W", formats=("raw", "qcow2"))
    copy = images.make_sparse_image(tmp_path / "copy.img", DISK_SIZE)
    target = serve(copy)
    images.qemu_convert(qcow2, target.uri(), "-n", "-m16", "-W", formats=("qcow2", "raw"))
    output = images.command(
        "qemu-img", "compare", "-f", "raw", "-F", "raw", source.uri(), target.uri()
    )
    assert "identical" in output
    target.stop()
    assert_same(copy, original, tmp_path)


@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_the_partition_alone_is_served_by_offset_and_size(serve, original, tmp_path, direct_io):
    """Its export is the bare file system; after new files came in through it, fsck and the hashes
    agree.
    """
    disk, offset, length, hashes = original
    copy = tmp_path / "copy.img"
    images.command("cp", "--sparse=always", disk, copy)
    window = serve("--direct-io", direct_io, "--offset", offset, "--size", length, copy)
    assert images.command("nbdinfo", "--size", window.uri()).strip() == str(length)
    partition = tmp_path / "partition-out.img"
    images.command("nbdcopy", "--connections=4", window.uri(), partition)
    images.check_ext4(partition, 0)

    (tmp_path / "new.txt").write_text("written into the file system of a partition\n")
    images.command("debugfs", "-w", "-R", f"write {tmp_path / 'new.txt'} new.txt", partition)
    images.command("nbdcopy", "--connections=4", "--flush", partition, window.uri())
    window.stop()
    partition.unlink()
    assert images.partition_of(copy) == (offset, length), "the partition table was touched"
    images.check_ext4(copy, offset)
    found = images.hashes_of_ext4(copy, offset, length, tmp_path)
    assert found.pop("new.txt") == images.sha256(tmp_path / "new.txt")
    assert found == hashes
