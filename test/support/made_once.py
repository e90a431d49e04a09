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


def folder(name, script, *arguments, ingredients=()):
    """build/NAME/root-HASH, made by `script FOLDER argument...`; HASH is that of the script, the
    arguments and the ingredients, which are bytes. A second process waits while the first makes
    it.
    """
    cache = ROOT / "build" / name
    cache.mkdir(parents=True, exist_ok=True)
    parts = [script.read_bytes(), *(str(argument).encode() for argument in arguments), *ingredients]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
    target = cache / f"root-{digest}"
    with _locked(cache / "lock"):
        if not target.exists():
            for old in cache.glob("root-*"):
                shutil.rmtree(old)
            half_done = cache / "root-half-done"
            subprocess.run([script, half_done, *arguments], check=True, timeout=LIMIT_SECONDS)
            half_done.rename(target)
    return target


@contextlib.contextmanager
def _locked(path):
    with open(path, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
