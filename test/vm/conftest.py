"""Fixtures of the tests in guests: the way to the rig, a network, servers outside the guest."""

import contextlib
import os
import pathlib
import sys

import pytest

VM = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(VM), str(VM.parent)]
# Tools for administrators, where the user's path lacks them.
os.environ["PATH"] += ":/usr/sbin:/sbin"
os.environ.setdefault("LOOPNBD", str(VM.parent.parent / "build" / "release" / "loopnbd"))

from rig import network  # noqa: E402 (the path comes first)
from support import server  # noqa: E402


@pytest.fixture(scope="module")
def net():
    """The network that the guests and the servers of a test are in."""
    with network.Network() as shared:
        yield shared


@pytest.fixture
def serve(net):
    """serve(argument...): a server outside the guest, at the address that the guest knows.

    After the test every server that still runs gets a SIGTERM and must end with status 0.
    """
    started = contextlib.ExitStack()

    def start(*arguments):
        listen = ["--listen", f"{network.HOST_ADDRESS}:10809", *arguments]
        running = server.Server(listen, (network.HOST_ADDRESS, 10809), net=net)
        started.callback(running.stop)
        return running.wait_until_listening()

    with started:
        yield start
