"""nbd-client, libnbd's tools and nbdkit as a client, of two releases."""

import json
import pathlib
import subprocess

import pytest

from support import images, releases
from support.server import WAIT_SECONDS, binary, environment

pytestmark = pytest.mark.usefixtures("release")

FOUR_CONNECTIONS = "--connections=4"


@pytest.fixture(params=["unix", "tcp"])
def listen(request):
    return request.param


@pytest.fixture
def sparse_image(tmp_path):
    """6 MiB: 2 MiB data, 2 MiB hole, 2 MiB data."""
    path = images.make_sparse_image(tmp_path / "sparse.img", 6 << 20)
    with open(path, "r+b") as file:
        file.write(images.random_bytes(2 << 20, seed=4))
        file.seek(4 << 20)
        file.write(images.random_bytes(2 << 20, seed=5))
    return path


def test_nbd_client_lists_every_export(serve, image, listen):
    other = images.make_image(image.parent / "two.img", 512)
    server = serve(f"one={image}", f"two={other}", listen=listen)
    if listen == "unix":
        listed = images.command("nbd-client", "-l", "-unix", server.address)
    else:
        listed = images.command("nbd-client", "-l", *server.address)
    assert {"one", "two"} <= set(listed.split())


def test_nbdinfo_json_says_what_the_export_can(serve, image, listen):
    server = serve(f"disk={image}", listen=listen)
    (export,) = json.loads(images.command("nbdinfo", "--json", server.uri("disk")))["exports"]
    assert export["export-size"] == image.stat().st_size
    assert export["contexts"] == ["base:allocation"]
    assert not export["is_read_only"]
    for ability in ("cache", "df", "flush", "fua", "multi_conn", "trim", "zero"):
        assert export[f"can_{ability}"], ability
    assert export["block_size_preferred"] >= 512


@pytest.mark.parametrize(
    "question, yes",
    [
        (["--can", "fua"], True),
        (["--can", "flush"], True),
        (["--can", "multi-conn"], True),
        (["--can", "write"], False),
        (["--is", "read-only"], True),
        (["--can", "structured"], True),
        (["--is", "tls"], False),
    ],
)
def test_nbdinfo_can_and_is_answer_by_exit_status(serve, image, question, yes):
    """Of a read-only export: 0 is yes, 2 is no."""
    server = serve("--read-only", image)
    result = subprocess.run(
        ["nbdinfo", *question, server.uri()], timeout=WAIT_SECONDS, check=False
    )
    assert result.returncode == (0 if yes else 2)


def test_nbdinfo_list_shows_names_and_descriptions(serve, image, tmp_path):
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        f'[[export]]\nname = "disk"\npath = "{image}"\ndescription = "the demo disk"\n'
    )
    server = serve("--config", config)
    (export,) = json.loads(images.command("nbdinfo", "--list", "--json", server.uri()))["exports"]
    assert export["export-name"] == "disk" and export["description"] == "the demo disk"


def test_nbdinfo_map_tells_data_and_holes(serve, sparse_image, listen):
    server = serve(sparse_image, listen=listen)
    extents = json.loads(images.command("nbdinfo", "--map", "--json", server.uri()))
    assert [(extent["offset"], extent["length"], extent["type"]) for extent in extents] == [
        (0, 2 << 20, 0),
        (2 << 20, 2 << 20, 3),
        (4 << 20, 2 << 20, 0),
    ]


@pytest.mark.workers
def test_nbdcopy_reads_an_export_with_four_connections(serve, sparse_image, tmp_path, listen):
    server = serve(sparse_image, listen=listen)
    images.command(
        "nbdcopy", FOUR_CONNECTIONS, "--requests=32", server.uri(), tmp_path / "copy.img"
    )
    assert images.sha256(tmp_path / "copy.img") == images.sha256(sparse_image)


@pytest.mark.workers
def test_nbdcopy_writes_an_export_with_four_connections(serve, sparse_image, tmp_path, listen):
    target = images.make_image(tmp_path / "target.img", 6 << 20, seed=9)
    server = serve(target, listen=listen)
    images.command("nbdcopy", FOUR_CONNECTIONS, "--flush", sparse_image, server.uri())
    assert images.sha256(target) == images.sha256(sparse_image)


@pytest.mark.workers
def test_nbdcopy_copies_between_two_exports_of_one_server(serve, sparse_image, tmp_path):
    target = images.make_image(tmp_path / "target.img", 6 << 20, seed=9)
    server = serve(f"from={sparse_image}", f"to={target}")
    images.command("nbdcopy", FOUR_CONNECTIONS, "--flush", server.uri("from"), server.uri("to"))
    assert images.sha256(target) == images.sha256(sparse_image)


def test_nbdcopy_leaves_the_holes_of_the_source_sparse(serve, tmp_path):
    source = images.make_sparse_image(tmp_path / "source.img", 32 << 20)
    target = images.make_image(tmp_path / "target.img", 32 << 20)
    server = serve(target)
    images.command("nbdcopy", "--flush", source, server.uri())
    assert target.stat().st_blocks == 0
    images.command("nbdcopy", server.uri(), tmp_path / "back.img")
    assert (tmp_path / "back.img").stat().st_blocks == 0


def test_nbdcopy_of_an_odd_size_is_exact(serve, tmp_path):
    source = images.make_image(tmp_path / "odd.img", 1234567)
    server = serve(source)
    images.command("nbdcopy", server.uri(), tmp_path / "copy.img")
    assert images.sha256(tmp_path / "copy.img") == images.sha256(source)


def test_nbdcopy_starts_the_server_itself_and_reads_from_it(sparse_image, tmp_path):
    """nbdcopy's brackets pass a listening socket, as systemd does."""
    images.command(
        "nbdcopy",
        "--",
        "[",
        binary(),
        "serve",
        sparse_image,
        "]",
        tmp_path / "copy.img",
        env=environment(),
    )
    assert images.sha256(tmp_path / "copy.img") == images.sha256(sparse_image)


def test_nbdcopy_starts_the_server_itself_and_writes_to_it(sparse_image, tmp_path):
    target = images.make_image(tmp_path / "target.img", 6 << 20, seed=9)
    images.command(
        "nbdcopy",
        FOUR_CONNECTIONS,
        "--flush",
        "--",
        sparse_image,
        "[",
        binary(),
        "serve",
        target,
        "]",
        env=environment(),
    )
    assert images.sha256(target) == images.sha256(sparse_image)


def test_nbdinfo_starts_the_server_itself(image):
    information = json.loads(
        images.command(
            "nbdinfo", "--json", "--", "[", binary(), "serve", image, "]", env=environment()
        )
    )
    assert information["exports"][0]["export-size"] == image.stat().st_size


@pytest.fixture
def plugins(release):
    """nbdkit's: PLUGIN is named by its file, since nbdkit looks where its package would be."""
    root = releases.trixie() / "root" if release != releases.OWN else pathlib.Path("/")
    return root / "usr" / "lib" / "x86_64-linux-gnu" / "nbdkit" / "plugins"


def test_nbdkit_passes_reads_and_writes_on(serve, sparse_image, tmp_path, plugins, listen):
    target = images.make_image(tmp_path / "target.img", 6 << 20, seed=9)
    server = serve(target, listen=listen)
    plugin = plugins / "nbdkit-nbd-plugin.so"
    copy = f'nbdcopy --flush "{sparse_image}" "$uri" && nbdcopy "$uri" "{tmp_path}/back.img"'
    images.command("nbdkit", "-U", "-", plugin, f"uri={server.uri()}", "--run", copy)
    assert images.sha256(target) == images.sha256(sparse_image)
    assert images.sha256(tmp_path / "back.img") == images.sha256(sparse_image)


def test_every_command_and_flag_is_as_the_newer_libnbd_expects(release):
    """libnbd_test.py, with its Python and its libnbd."""
    if release == releases.OWN:
        pytest.skip("libnbd_test.py is run by itself")
    python = {"PYTHONHOME": str(releases.trixie() / "root" / "usr")}
    file = pathlib.Path(__file__).with_name("libnbd_test.py")
    told = images.command(
        "python3.13", "-B", "-m", "pytest", "-q", file, env=environment(**python), timeout=120
    )
    assert " passed" in told and "skipped" not in told
