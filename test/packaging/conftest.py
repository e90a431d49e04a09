"""Fixtures of the packaging tests: what is built of the program under test ($LOOPNBD)."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ["PATH"] += ":/usr/sbin:/sbin"

from support import images, server  # noqa: E402 (the path comes first)

PACKAGING = server.ROOT / "packaging"


@pytest.fixture(scope="session")
def deb(tmp_path_factory):
    """The Debian package, made of the build tree that the program under test is in."""
    folder = tmp_path_factory.mktemp("deb")
    tree = pathlib.Path(server.binary()).parent
    path = images.command(
        *(PACKAGING / "build-deb", "--build", tree, folder),
        env={**os.environ, "DEB_BUILD_OPTIONS": "noautodbgsym"},
        timeout=300,
    )
    return pathlib.Path(path.strip())


@pytest.fixture(scope="session")
def as_root():
    if os.geteuid() != 0:
        pytest.skip("chroots and containers need root")
