"""fio's nbd engine of two releases, verifying everything it wrote."""

import json

import pytest

from support import images

pytestmark = pytest.mark.usefixtures("release")


def fio(uri, *options):
    """Runs a fio job and returns its figures; a failed verification fails it."""
    output = images.command(
        "fio",
        "--name=job",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--output-format=json",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randrepeat=1",
        "--norandommap=0",
        *options,
        timeout=120,
    )
    (job,) = json.loads(output[output.index("{") :])["jobs"]
    assert job["error"] == 0
    return job


@pytest.fixture(params=["unix", "tcp"])
def listen(request):
    return request.param


@pytest.fixture
def big_image(tmp_path):
    return images.make_sparse_image(tmp_path / "big.img", 32 << 20)


@pytest.mark.parametrize("block_size", ["512", "4k", "64k"])
def test_random_writes_are_verified(serve, big_image, listen, block_size):
    server = serve(big_image, listen=listen)
    size = "2M" if block_size == "512" else "16M"
    job = fio(
        server.uri(),
        "--rw=randwrite",
        f"--bs={block_size}",
        f"--size={size}",
        "--iodepth=32",
        "--do_verify=1",
    )
    assert job["write"]["io_bytes"] == job["read"]["io_bytes"] > 0


def test_mixed_reads_writes_trims_and_flushes_are_verified(serve, big_image):
    server = serve(big_image)
    fio(
        server.uri(),
        "--rw=randrw",
        "--bsrange=512-128k",
        "--bs_unaligned=1",
        "--size=16M",
        "--iodepth=64",
        "--fsync=16",
        "--verify_backlog=64",
    )
    fio(server.uri(), "--rw=randtrim", "--bs=4k", "--size=4M", "--iodepth=16", "--verify=0")


def test_sequential_writes_larger_than_a_buffer_are_verified(serve, big_image, listen):
    server = serve(big_image, listen=listen)
    fio(server.uri(), "--rw=write", "--bs=8M", "--size=32M", "--iodepth=4", "--do_verify=1")


@pytest.mark.workers
def test_several_jobs_on_one_export_are_verified(serve, big_image):
    """Each has a connection and a quarter of the disk of its own."""
    server = serve(big_image)
    output = images.command(
        "fio",
        "--ioengine=nbd",
        f"--uri={server.uri()}",
        "--name=job",
        "--numjobs=4",
        "--size=4M",
        "--offset_increment=8M",
        "--rw=randwrite",
        "--bs=4k",
        "--iodepth=32",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--do_verify=1",
        "--group_reporting",
        "--output-format=json",
        timeout=120,
    )
    assert json.loads(output[output.index("{") :])["jobs"][0]["write"]["io_bytes"] == 16 << 20


def test_512_byte_writes_on_a_loop_device_are_verified(serve, loop_device, listen):
    server = serve(loop_device, listen=listen)
    fio(server.uri(), "--rw=randwrite", "--bs=512", "--size=1M", "--iodepth=32", "--do_verify=1")


@pytest.mark.bulk
def test_a_gigabyte_of_random_writes_is_verified(serve, tmp_path, listen):
    big = images.make_sparse_image(tmp_path / "big.img", 256 << 20)
    server = serve(big, listen=listen)
    fio(
        server.uri(),
        "--rw=randwrite",
        "--bsrange=4k-256k",
        "--size=256M",
        "--io_size=512M",
        "--iodepth=64",
        "--verify_backlog=1024",
    )
