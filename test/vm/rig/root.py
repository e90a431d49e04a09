"""The guests' root file system: built once, kept in build/vm, made anew when what it is made of
changes.
"""

import pathlib
import subprocess

from support import made_once, releases

VM = pathlib.Path(__file__).resolve().parent.parent
ROOT = VM.parent.parent


def folder():
    """The folder with root.img, vmlinuz and initrd; builds it first when it is not there.

    It is made of the package list (in build-root), the first process, and the modules of the
    kernels: this machine's User-mode Linux, and Debian 13's.
    """
    kernel = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", "user-mode-linux"],
        capture_output=True,
        check=True,
    ).stdout
    first_process = (VM / "guest-init").read_bytes()
    return made_once.folder(
        "vm",
        VM / "build-root",
        releases.trixie() / "root" / "usr" / "lib" / "uml" / "modules",
        ingredients=(first_process, kernel),
    )
