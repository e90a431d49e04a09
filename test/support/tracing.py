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


@contextlib.contextmanager
def calls_delayed(running, path, call):
    """Each `call` of `running` on the file at `path` takes until the end of this, as on a disk that
    hangs.
    """
    minute = 60_000_000  # microseconds; longer than any test waits
    tracer = subprocess.Popen(
        ["strace", "-f", "-o", "/dev/null", "-p", str(running.pid), "-P", path]
        + ["-e", f"inject={call}:delay_enter={minute}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any("attached" in line for line in tracer.stderr)
    try:
        yield
    finally:
        tracer.kill()  # asked to end, it would wait for a server that ends
        tracer.wait(server.WAIT_SECONDS)
