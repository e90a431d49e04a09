"""Fixtures of the system tests. `serve` starts a server and makes sure that it ends well."""

import contextlib
import os
import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
# Tools for administrators, where the user's path lacks them.
os.environ["PATH"] += ":/usr/sbin:/sbin"

from support import certificates, images, releases, server  # noqa: E402 (the path comes first)


@pytest.fixture
def tmp_path():
    """A folder of its own, which a test can open to other users. pytest's would lie in one that
    each pytest that starts closes to them again.
    """
    with tempfile.TemporaryDirectory(prefix="loopnbd-test-") as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def serve(tmp_path):
    """serve(argument..., listen="unix" | "tcp" | "tcp6"): a server that listens. With None it does
    so at `address`, which the arguments say.

    It has two workers unless the arguments say otherwise. After the test every server that still
    runs gets a SIGTERM and must end with status 0 and without a word from a sanitizer.
    """
    started = contextlib.ExitStack()
    counter = iter(range(1000))

    def start(*arguments, listen="unix", address=None, **popen):
        if listen is None:
            listen_arguments = []
        elif listen == "unix":
            address = str(tmp_path / f"nbd{next(counter)}.sock")
            listen_arguments = ["--listen", f"unix:{address}"]
        else:
            host = {"tcp": "127.0.0.1", "tcp6": "::1"}[listen]
            address = (host, server.free_port(host))
            where = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
            listen_arguments = ["--listen", where]
        if "--workers" not in arguments and "--config" not in arguments:
            arguments = ("--workers", "2", *arguments)
        running = server.Server([*listen_arguments, *arguments], address, **popen)
        started.callback(running.stop)
        return running.wait_until_listening()

    with started:
        yield start


@pytest.fixture
def image(tmp_path):
    """A file of 4 MiB of random bytes: disk.img."""
    return images.make_image(tmp_path / "disk.img", 4 * images.MIB)


@pytest.fixture
def root_only():
    if os.geteuid() != 0:
        pytest.skip("loop devices and mounts need root")


@pytest.fixture(params=releases.NAMES)
def release(request, monkeypatch):
    """The Debian release whose clients the test finds: this machine's own, and Debian 13's."""
    if request.param == releases.TRIXIE != releases.OWN and os.geteuid() != 0:
        pytest.skip("unpacking the clients of Debian 13 needs root")
    monkeypatch.setenv("PATH", releases.path(request.param))
    return request.param


@pytest.fixture(params=[512, 4096])
def loop_device(request, tmp_path, root_only):
    """A loop device of 8 MiB of random bytes, with 512-byte and with 4096-byte blocks."""
    backing = images.make_image(tmp_path / "loop.img", 8 * images.MIB, seed=7)
    with images.loop_device(backing, "--sector-size", str(request.param)) as device:
        yield device


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A folder with certificates and keys (support/certificates.py)."""
    return certificates.make_all(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tls_arguments(pki):
    """The arguments of a server that has a certificate and pre-shared keys."""
    return (
        "--tls-certificate",
        pki / "server-cert.pem",
        "--tls-key",
        pki / "server-key.pem",
        "--tls-psk-file",
        pki / "keys.psk",
    )
