"""Metadata contexts and block status; spec: "Metadata querying", "`base:allocation` metadata
context".
"""

import struct

import pytest

from support import images
from support.nbd_client import (
    CHUNK_BLOCK_STATUS,
    CMD_BLOCK_STATUS,
    EINVAL,
    OPT_LIST,
    OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT,
    OPT_STRUCTURED_REPLY,
    REP_ACK,
    REP_ERR_INVALID,
    REP_ERR_UNKNOWN,
    REQ_ONE,
    Client,
    meta_context_payload,
    text,
)

HOLE, ZERO = 1, 2


@pytest.fixture
def sparse_image(tmp_path):
    """8 MiB: 1 MiB data, 3 MiB hole, 1 MiB data, 3 MiB hole."""
    path = images.make_sparse_image(tmp_path / "sparse.img", 8 * images.MIB)
    with open(path, "r+b") as file:
        for megabyte in (0, 4):
            file.seek(megabyte * images.MIB)
            file.write(images.random_bytes(images.MIB))
        file.flush()
    return path


@pytest.fixture
def server(serve, sparse_image, image):
    return serve(f"sparse={sparse_image}", f"disk={image}")


@pytest.fixture
def haggler(server):
    """Greeted, with structured replies."""
    with Client(server.connect()) as client:
        client.greet()
        assert client.option_type(OPT_STRUCTURED_REPLY) == REP_ACK
        client.structured = True
        yield client


@pytest.mark.parametrize("option", [OPT_SET_META_CONTEXT, OPT_LIST_META_CONTEXT])
def test_without_structured_replies_there_are_no_contexts(server, option):
    with Client(server.connect()) as client:
        client.greet()
        assert (
            client.option_type(option, meta_context_payload("sparse", ["base:allocation"]))
            == REP_ERR_INVALID
        )
        assert client.option_type(OPT_LIST) == REP_ACK


@pytest.mark.parametrize(
    "queries, names",
    [
        ([], []),
        (["base:allocation"], ["base:allocation"]),
        (["base:allocation", "base:allocation"], ["base:allocation"]),
        (["base:"], []),
        (["qemu:dirty-bitmap:x", "base:allocation", "x-unknown:y"], ["base:allocation"]),
        (["x-unknown:"], []),
        (["base:unknown"], []),
    ],
)
def test_set_selects_what_is_asked_for_once(haggler, queries, names):
    contexts = haggler.set_meta_context("sparse", queries)
    assert sorted(contexts.values()) == names


@pytest.mark.parametrize(
    "queries, found",
    [([], True), (["base:"], True), (["base:allocation"], True), (["x-unknown:"], False)],
)
def test_list_names_the_contexts_that_match(haggler, queries, found):
    *contexts, final = haggler.option(
        OPT_LIST_META_CONTEXT, meta_context_payload("sparse", queries)
    )
    assert final.type == REP_ACK
    assert [reply.payload[4:] for reply in contexts] == [b"base:allocation"] * found


MALFORMED = {
    "nothing": b"",
    "no count": text("sparse"),
    "a query too few": text("sparse") + struct.pack(">I", 2) + text("base:allocation"),
    "a query beyond the data": text("sparse") + struct.pack(">II", 1, 100) + b"base:",
    "4 G queries": text("sparse") + b"\xff\xff\xff\xff",
    "bytes left over": meta_context_payload("sparse", ["base:allocation"]) + b"\0",
}


@pytest.mark.parametrize("option", [OPT_SET_META_CONTEXT, OPT_LIST_META_CONTEXT])
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_query_is_err_invalid_and_in_sync(haggler, option, case):
    assert haggler.option_type(option, MALFORMED[case]) == REP_ERR_INVALID
    assert haggler.option_type(OPT_LIST) == REP_ACK


def test_a_context_of_an_unknown_export_is_err_unknown(haggler):
    payload = meta_context_payload("missing", ["base:allocation"])
    assert haggler.option_type(OPT_SET_META_CONTEXT, payload) == REP_ERR_UNKNOWN


def block_status_error(client):
    return client.error(CMD_BLOCK_STATUS, 0, 4096)


def test_a_failed_set_clears_the_earlier_selection(haggler):
    haggler.set_meta_context("sparse")
    haggler.option_type(OPT_SET_META_CONTEXT, b"")
    assert block_status_error(haggler.go("sparse")) == EINVAL


def test_an_empty_set_clears_the_earlier_selection(haggler):
    haggler.set_meta_context("sparse")
    haggler.set_meta_context("sparse", [])
    assert block_status_error(haggler.go("sparse")) == EINVAL


def test_a_selection_holds_only_for_its_export(haggler):
    haggler.set_meta_context("disk")
    assert block_status_error(haggler.go("sparse")) == EINVAL


def test_block_status_without_a_selection_is_einval(haggler):
    assert block_status_error(haggler.go("sparse")) == EINVAL


@pytest.mark.parametrize("direct_io", ["auto", "off"])
@pytest.mark.parametrize("extended", [False, True])
def test_block_status_tells_data_and_holes(serve, sparse_image, direct_io, extended):
    server = serve("--direct-io", direct_io, sparse_image)
    with server.client(
        "", structured=True, extended=extended, contexts=["base:allocation"]
    ) as client:
        extents = client.block_status(0, 8 * images.MIB)
        assert extents == [
            (1 << 20, 0),
            (3 << 20, HOLE | ZERO),
            (1 << 20, 0),
            (3 << 20, HOLE | ZERO),
        ]
        assert client.block_status(2 << 20, images.MIB)[0][1] == HOLE | ZERO


def test_req_one_is_one_extent_within_the_request(server):
    with server.client("sparse", structured=True, contexts=["base:allocation"]) as client:
        assert client.block_status(0, 8 << 20, REQ_ONE) == [(1 << 20, 0)]
        assert client.block_status(0, 4096, REQ_ONE) == [(4096, 0)]
        assert client.block_status(1 << 20, 65536, REQ_ONE) == [(65536, HOLE | ZERO)]


@pytest.mark.parametrize(
    "offset, length",
    [
        (0, 8 << 20),
        (1, 3),
        ((1 << 20) - 1, 2),
        (3 << 20, 5 << 20),
        ((8 << 20) - 1, 1),
        (12345, 5000000),
    ],
)
def test_extents_are_never_empty_and_all_but_the_last_lie_inside_the_request(
    server, offset, length
):
    with server.client("sparse", structured=True, contexts=["base:allocation"]) as client:
        (chunk,) = [
            chunk
            for chunk in client.transact(CMD_BLOCK_STATUS, offset, length)
            if chunk.type == CHUNK_BLOCK_STATUS
        ]
        assert struct.unpack(">I", chunk.data[:4])[0] == client.context_id
        extents = list(struct.iter_unpack(">II", chunk.data[4:]))
        assert all(extent_length > 0 for extent_length, _ in extents)
        assert all(left[1] != right[1] for left, right in zip(extents, extents[1:]))
        assert sum(extent_length for extent_length, _ in extents[:-1]) < length
        assert offset + sum(extent_length for extent_length, _ in extents) <= 8 << 20


def test_what_is_said_to_be_zero_reads_as_zeroes_after_writes_and_trims(server):
    """Mixed direct I/O and SEEK_HOLE: the status must follow each change at once."""
    with server.client("sparse", structured=True, contexts=["base:allocation"]) as client:
        client.write(2 << 20, b"x" * 65536)
        client.write((6 << 20) + 1000, b"y")
        assert client.error(4, 0, 1 << 20) == 0  # TRIM
        position = 0
        while position < client.size:
            for length, flags in client.block_status(position, client.size - position):
                if flags & ZERO:
                    assert client.read(position, length) == bytes(length)
                position += length


@pytest.mark.parametrize(
    "offset, length", [(8 << 20, 1), ((8 << 20) - 1, 2), (2**64 - 1, 2), (0, 0xFFFFFFFF)]
)
def test_block_status_beyond_the_end_is_einval(server, offset, length):
    with server.client("sparse", structured=True, contexts=["base:allocation"]) as client:
        assert client.error(CMD_BLOCK_STATUS, offset, length) == EINVAL
        assert client.block_status(0, 4096)


def test_a_hole_of_more_than_4_gib_is_clamped_in_compact_and_whole_in_extended_headers(
    serve, tmp_path
):
    big = images.make_sparse_image(tmp_path / "big.img", 10 << 30)
    server = serve(big)
    # Lengths that rounding up to a block would carry beyond 32 bits, and one context that is not
    # there beside the one that is.
    contexts = ["base:allocation", "qemu:allocation-depth"]
    with server.client("", structured=True, contexts=contexts) as client:
        for asked in (0xFFFFFFFF, *(2**32 - block + 1 for block in (512, 4096, 65536))):
            ((length, flags),) = client.block_status(0, asked)
            assert 0 < length <= 0xFFFFFFFF and flags == HOLE | ZERO
    with server.client("", extended=True, contexts=["base:allocation"]) as client:
        ((length, flags),) = client.block_status(0, 10 << 30)
        assert length == 10 << 30 and flags == HOLE | ZERO


def test_a_file_of_many_extents_is_told_piece_by_piece(serve, tmp_path):
    path = images.make_sparse_image(tmp_path / "comb.img", 4000 * 8192)
    with open(path, "r+b") as file:
        for tooth in range(4000):
            file.seek(tooth * 8192)
            file.write(b"#" * 4096)
    with serve(path).client("", structured=True, contexts=["base:allocation"]) as client:
        position, seen = 0, []
        while position < client.size:
            for length, flags in client.block_status(position, client.size - position):
                seen.append((position, length, flags))
                position += length
        assert position == client.size
        assert [entry for entry in seen if entry[2] == 0 and entry[1] > 4096] == []
        assert sum(length for _, length, flags in seen if flags == HOLE | ZERO) == 4000 * 4096
