"""Several connections on several workers at once, compared with a shadow copy."""

import random
import time

import pytest

from support import images
from support.nbd_client import CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, FUA
from support.parallel import run_all

pytestmark = pytest.mark.workers


@pytest.fixture(params=["file", "loop"])
def backing(request, tmp_path):
    """A file, or a loop device of 4096-byte blocks, of 2 MiB of zeroes."""
    path = images.make_sparse_image(tmp_path / "disk.img", 2 << 20)
    if request.param == "file":
        yield path
        return
    request.getfixturevalue("root_only")
    with images.loop_device(path, "--sector-size", "4096") as device:
        yield device


@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_sub_block_writes_of_many_connections_into_shared_blocks_all_survive(
    serve, backing, direct_io
):
    """Eight connections own every eighth 100-byte slot: each block belongs to all of them."""
    server = serve("--direct-io", direct_io, "--workers", "4", backing)
    slots, owners, slot_length = 800, 8, 100

    def writer(owner):
        def run():
            with server.client() as client:
                for generation in range(3):
                    cookies = [
                        client.request(
                            CMD_WRITE,
                            slot * slot_length,
                            slot_length,
                            payload=bytes([owner * 10 + generation]) * slot_length,
                        )
                        for slot in range(owner, slots, owners)
                    ]
                    replies = client.replies(len(cookies))
                    assert all(chunk.error == 0 for chunks in replies.values() for chunk in chunks)

        return run

    run_all([writer(owner) for owner in range(owners)])
    with server.client() as client:
        content = client.read(0, slots * slot_length)
    for slot in range(slots):
        assert (
            content[slot * slot_length :][:slot_length]
            == bytes([slot % owners * 10 + 2]) * slot_length
        ), slot
    server.stop()


@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_random_requests_of_four_connections_agree_with_a_shadow_copy(serve, backing, direct_io):
    """Each connection owns a region whose borders lie inside blocks; reads go over its own
    bytes.
    """
    server = serve("--direct-io", direct_io, "--workers", "4", backing)
    regions = 4
    region_length = (2 << 20) // regions - 333

    def client_of(number):
        def run():
            chance = random.Random(number)
            shadow = bytearray(region_length)
            begin = number * region_length
            framing = ({}, {"structured": True}, {"extended": True})[number % 3]
            with server.client("", **framing) as client:
                for _ in range(150):
                    offset = chance.randrange(region_length)
                    length = min(
                        chance.choice([1, 100, 512, 4096, 5000, 70000]), region_length - offset
                    )
                    kind = chance.choice(["read", "read", "write", "write", "zero"])
                    if kind == "read":
                        assert (
                            client.read(begin + offset, length) == shadow[offset : offset + length]
                        )
                    elif kind == "write":
                        data = chance.randbytes(length)
                        client.write(begin + offset, data, chance.choice([0, 0, 0, FUA]))
                        shadow[offset : offset + length] = data
                    else:
                        assert client.error(CMD_WRITE_ZEROES, begin + offset, length) == 0
                        shadow[offset : offset + length] = bytes(length)
                client.flush()
                assert client.read(begin, region_length) == shadow

        return run

    run_all([client_of(number) for number in range(regions)])
    server.stop()


def test_a_write_acknowledged_on_one_connection_is_seen_on_every_other(serve, image):
    server = serve("--workers", "4", image)
    clients = [server.client() for _ in range(6)]
    for round_number in range(60):
        writer = clients[round_number % 6]
        data = images.random_bytes(700, seed=round_number)
        writer.write(round_number * 333, data)
        for reader in clients:
            assert reader.read(round_number * 333, 700) == data
    clients[0].flush()
    assert image.read_bytes()[59 * 333 :][:700] == data


@pytest.mark.parametrize("direct_io", ["auto", "off"])
def test_an_unfinished_write_of_a_dead_client_never_lands_after_a_newer_one(
    serve, image, direct_io
):
    server = serve("--direct-io", direct_io, "--workers", "4", image)
    for round_number in range(40):
        dying = server.client()
        for index in range(32):
            dying.request(CMD_WRITE, index * 65536 + 7, 65536, payload=b"\xdd" * 65536)
        dying.close()
        with server.client() as successor:
            mark = bytes([round_number]) * 4096
            for index in range(0, 32, 4):
                successor.write(index * 65536 + 4096, mark)
            for _ in range(3):
                for index in range(0, 32, 4):
                    assert (
                        successor.read(index * 65536 + 4096, 4096) == mark
                    ), "a dead client's write landed"


def test_clients_that_die_at_once_do_not_wait_for_each_other(serve, image):
    """A newcomer lets the writes of dead ones finish first; here the newcomers are dead, too."""
    server = serve("--workers", "4", image)
    for _ in range(100):
        dying = server.client()
        dying.request(CMD_WRITE, 0, 65536, payload=b"d" * 65536)
        dying.close()
    begin = time.monotonic()
    with server.client() as client:
        client.write(0, b"l" * 4096)
        assert client.read(0, 4096) == b"l" * 4096
    assert time.monotonic() - begin < 5, "held up by clients that are gone"


def test_connections_come_and_go_while_others_work(serve, image):
    server = serve("--workers", "4", image, listen="tcp")

    def steady(number):
        def run():
            with server.client() as client:
                for round_number in range(100):
                    data = bytes([number]) * 3000
                    client.write(number * 500000 + round_number * 1000, data)
                    assert client.read(number * 500000 + round_number * 1000, 3000) == data

        return run

    def restless():
        for round_number in range(60):
            client = server.client("", extended=round_number % 2 == 0)
            client.request(CMD_READ, (2 << 20), 65536)
            client.request(CMD_TRIM, (3 << 20), 65536)
            if round_number % 3 == 0:
                client.replies(2)
                client.disconnect()
            client.close()

    run_all([steady(0), steady(1), steady(2), restless, restless])
