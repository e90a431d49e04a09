"""/host of a guest: loopnbd with its libraries, what to run, and files of the test."""

import os
import pathlib
import re
import shutil
import subprocess

from . import root

# Part of the guest's root file system in the same version; loaded from there.
LIBRARIES_OF_THE_GUEST = re.compile(r"^(ld-linux|libc|libm|libgcc_s|libstdc\+\+|libpthread)[.-]")


def binary():
    """The program under test: $LOOPNBD, or what the release preset has built."""
    return os.environ.get("LOOPNBD", str(root.ROOT / "build" / "release" / "loopnbd"))


def fill(folder, script, files=(), programs=None):
    """Lays out `folder` for a guest that runs `script`; `files` are copied to /host/files, the
    `programs` of this machine, {name: path}, come into its PATH beside loopnbd.
    """
    for name in ("bin", "lib", "files", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    under_test = binary()
    if not os.access(under_test, os.X_OK):
        raise RuntimeError(f"there is no {under_test}: build the release preset, or set LOOPNBD")
    for name, program in {"loopnbd": under_test, **(programs or {})}.items():
        # Debug information is most of ours, and each guest reads it.
        subprocess.run(["strip", "-o", folder / "bin" / name, program], check=True, timeout=60)
        for library in _libraries(program):
            shutil.copy(library, folder / "lib")
    for name in ("guest-main", "agent"):
        shutil.copy(root.VM / name, folder)
    shutil.copy(script, folder / "run")
    (folder / "run").chmod(0o755)
    for file in files:
        shutil.copy(file, folder / "files")


def _libraries(program):
    listed = subprocess.run(
        ["ldd", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found = [pathlib.Path(path) for path in re.findall(r"=> (/\S+)", listed)]
    return [path for path in found if not LIBRARIES_OF_THE_GUEST.match(path.name)]
