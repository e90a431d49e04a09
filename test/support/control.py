"""`loopnbd ctl`, and the control socket itself."""

import json
import socket
import subprocess

from support import server

WAIT_SECONDS = server.WAIT_SECONDS


class Control:
    """The control socket of one server, at `path`."""

    def __init__(self, path):
        self.path = str(path)

    def run(self, *arguments):
        """The finished `loopnbd ctl`."""
        return server.run("ctl", "--socket", self.path, *arguments, timeout=2 * WAIT_SECONDS)

    def text(self, *arguments):
        """Returns its output; it must succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", done.stderr
        return done.stdout

    def json(self, *arguments):
        """The result, as a value; it must succeed."""
        done = subprocess.run(
            [server.binary(), "ctl", "--socket", self.path, "--json", *map(str, arguments)],
            env=server.environment(),
            text=True,
            timeout=2 * WAIT_SECONDS,
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)

    def refusal(self, *arguments):
        """Why it is refused; it must be."""
        done = self.run(*arguments)
        assert done.returncode == 1, (done.returncode, done.stdout)
        return done.stderr

    def export(self, name):
        """The status of one export."""
        (found,) = (entry for entry in self.json("status")["exports"] if entry["name"] == name)
        return found

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WAIT_SECONDS)
        connection.connect(self.path)
        return connection
