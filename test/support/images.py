"""Images, loop devices, file systems and partition tables for the tests; made with Debian's
tools.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import random
import subprocess

MIB = 1 << 20
SECTOR = 512


def command(*arguments, timeout=60, **more):
    """Runs a tool; its failure is the test's, with all it has said. Returns its standard output."""
    result = subprocess.run(
        [*map(str, arguments)],
        text=True,
        timeout=timeout,
        check=False,
        **{"capture_output": True, **more},
    )
    told = f"{result.stdout}{result.stderr}"
    assert result.returncode == 0, f"{arguments}: status {result.returncode}\n{told}"
    return result.stdout


def random_bytes(length, seed=1):
    return random.Random(seed).randbytes(length)


def make_image(path, size, seed=1):
    """A file of random bytes, of any size."""
    path.write_bytes(random_bytes(size, seed))
    return path


def make_sparse_image(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def qemu_convert(source, target, *options, formats=("raw", "raw")):
    """By qemu-img, which takes paths and URIs."""
    command("qemu-img", "convert", *options, "-f", formats[0], "-O", formats[1], source, target)


def is_locked(path):
    """Whether somebody else holds a lock of the file."""
    with open(path, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def loop_device(path, *options):
    """A loop device over a file, as in loop_device(path, "--sector-size", "4096")."""
    device = command("losetup", "--find", "--show", *options, path).strip()
    try:
        yield pathlib.Path(device)
    finally:
        command("losetup", "--detach", device)


@contextlib.contextmanager
def mounted(kind, source, target, options=""):
    target.mkdir(exist_ok=True)
    command("mount", "-t", kind, *(["-o", options] if options else []), source, target)
    try:
        yield target
    finally:
        command("umount", target)


def make_partitioned_image(path, files, size, offset=MIB):
    """A GPT disk; its one partition holds an ext4 file system with a copy of the folder `files`.

    Returns the partition's (offset, size) in bytes, as the partition table has them.
    """
    make_sparse_image(path, size)
    command(
        "sfdisk",
        "--quiet",
        path,
        input=f"label: gpt\nstart={offset // SECTOR}, type=linux, name=root\n",
    )
    offset, length = partition_of(path)
    command(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-d",
        files,
        "-E",
        f"offset={offset}",
        path,
        f"{length // 1024}k",
    )
    return offset, length


def partition_of(path):
    """(offset, size) in bytes of the only partition."""
    table = json.loads(command("sfdisk", "--json", path))["partitiontable"]
    (partition,) = table["partitions"]
    return partition["start"] * SECTOR, partition["size"] * SECTOR


def check_ext4(path, offset):
    """e2fsck, forced and reading only; any finding fails the test."""
    command("e2fsck", "-fn", f"{path}?offset={offset}")


def hashes_of_folder(folder):
    """Relative path -> hash of each regular file, target of each symbolic link."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_file():
            found[name] = sha256(path)
    return found


def hashes_of_ext4(image, offset, length, scratch):
    """The same of an ext4 file system inside an image: debugfs takes the files out, no mount
    needed.
    """
    partition = scratch / "partition.img"
    out = scratch / "files"
    out.mkdir()
    command(
        "dd",
        f"if={image}",
        f"of={partition}",
        "bs=1M",
        "iflag=skip_bytes,count_bytes",
        "conv=sparse",
        f"skip={offset}",
        f"count={length}",
    )
    command("debugfs", "-R", f"rdump / {out}", partition)
    partition.unlink()
    found = hashes_of_folder(out)
    return {name: value for name, value in found.items() if not name.startswith("lost+found")}
