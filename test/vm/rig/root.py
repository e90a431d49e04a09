"""The guests' root file system: built once, kept in build/vm, made anew when what it is made of
changes.
"""

import contextlib
import fcntl
import hashlib
import pathlib
import shutil
import subprocess

VM = pathlib.Path(__file__).resolve().parent.parent
ROOT = VM.parent.parent
CACHE = ROOT / "build" / "vm"


def folder():
    """The folder with root.img, vmlinuz and initrd; builds it first when it is not there.

    Whoever comes while another builds waits for it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"root-{_fingerprint()}"
    with _lock():
        if not target.exists():
            for old in CACHE.glob("root-*"):
                shutil.rmtree(old)
            half_done = CACHE / "root-half-done"
            subprocess.run([VM / "build-root", half_done], check=True, timeout=900)
            half_done.rename(target)
    return target


@contextlib.contextmanager
def _lock():
    with open(CACHE / "lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fingerprint():
    """Of the package list (it is in build-root), the first process, and the kernel on this
    machine, whose modules are in the image.
    """
    kernel = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", "user-mode-linux"],
        capture_output=True,
        check=True,
    ).stdout
    parts = [(VM / name).read_bytes() for name in ("build-root", "guest-init")] + [kernel]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
