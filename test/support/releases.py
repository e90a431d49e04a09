"""Client programs of two Debian releases: this machine's own, and those of Debian 13."""

import os
import pathlib
import platform

from support import made_once

TRIXIE = "trixie"
OWN = platform.freedesktop_os_release().get("VERSION_CODENAME", "own")
NAMES = list(dict.fromkeys((OWN, TRIXIE)))


def trixie():
    """The output of build-trixie: `bin` is for PATH, `root` has the packages' files."""
    return made_once.folder("trixie", pathlib.Path(__file__).with_name("build-trixie"))


def path(name):
    """PATH with that release's clients in front."""
    own = os.environ["PATH"]
    return own if name == OWN else f"{trixie() / 'bin'}:{own}"
