"""Folders that take a minute to make: made by the first who needs one, kept in build/, and made
anew when what they are made of changes.
"""

import contextlib
import fcntl
import hashlib
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LIMIT_SECONDS = 900


def folder(name, script, *ingredients):
    """build/NAME/root-HASH, made by `script FOLDER`; HASH is that of the script and of the
    ingredients, which are bytes. A second caller waits while another makes it.
    """
    cache = ROOT / "build" / name
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"\0".join([script.read_bytes(), *ingredients])).hexdigest()[:12]
    target = cache / f"root-{digest}"
    with _locked(cache / "lock"):
        if not target.exists():
            for old in cache.glob("root-*"):
                shutil.rmtree(old)
            half_done = cache / "root-half-done"
            subprocess.run([script, half_done], check=True, timeout=LIMIT_SECONDS)
            half_done.rename(target)
    return target


@contextlib.contextmanager
def _locked(path):
    with open(path, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
