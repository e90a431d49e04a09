"""Podman with images, containers and settings of its own: nothing of the user's is seen or touched,
and all of it is gone afterwards.
"""

import json
import os
import shutil
import subprocess

from support import images
from support.server import WAIT_SECONDS

# runc, because crun refuses machines with both versions of control groups; limits that any
# machine's are above; no systemd, no network to set up.
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    def __init__(self, folder):
        self.folder = folder
        settings = folder / "containers.conf"
        settings.write_text(SETTINGS)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(settings)}
        self.command = ["podman", "--root", f"{folder}/store", "--runroot", f"{folder}/run"]

    def run(self, *arguments, timeout=120, **more):
        """Its standard output; a failure is the test's."""
        # conmon leaves files where it is started.
        return images.command(
            *(*self.command, *arguments),
            timeout=timeout,
            env=self.environment,
            cwd=self.folder,
            **more,
        )

    def fails(self, *arguments):
        """All it says when it fails, as it must."""
        result = subprocess.run(
            [*self.command, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert result.returncode != 0, result.stdout
        return result.stdout + result.stderr

    def inspect(self, container):
        return json.loads(self.run("container", "inspect", container))[0]

    def logs(self, container):
        result = subprocess.run(
            [*self.command, "logs", container],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT_SECONDS,
            check=True,
        )
        return result.stdout

    def remove_all(self):
        self.run("pod", "rm", "--all", "--force", "--time", "10")
        self.run("rm", "--all", "--force", "--time", "10")
        self.run("rmi", "--all", "--force")
        subprocess.run(["umount", "--quiet", f"{self.folder}/store/overlay"], check=False)
        shutil.rmtree(self.folder / "store")
        shutil.rmtree(self.folder / "run")
