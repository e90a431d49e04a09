"""The system calls of a server, as strace sees them."""

import contextlib
import subprocess

from support import server


@contextlib.contextmanager
def system_calls(running, path, *calls):
    """Writes the calls of these names that `running` makes meanwhile, a line each, to `path`."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-o", path, "-p", str(running.pid), "-e", "trace=" + ",".join(calls)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "attached" in tracer.stderr.readline()
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait(server.WAIT_SECONDS)
