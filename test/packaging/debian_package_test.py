"""The Debian package: lintian has nothing to say; it installs, works and goes without a trace."""

import pathlib
import re
import subprocess

import pytest
from conftest import PACKAGING

from support import images, server


def test_lintian_finds_nothing(deb):
    packages = [path for path in deb.parent.iterdir() if path.suffix == ".deb"]
    result = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", *packages],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0 and result.stdout == "", result.stdout + result.stderr


def test_the_package_has_everything_in_its_place(deb):
    listing = images.command("dpkg-deb", "--contents", deb)
    for path in (
        "/usr/bin/loopnbd",
        "/lib/systemd/system/loopnbd.service",
        "/lib/systemd/system/loopnbd@.service",
        "/lib/systemd/system/loopnbd.socket",
        "/lib/systemd/system/loopnbd-attach@.service",
        "/usr/lib/sysusers.d/loopnbd.conf",
        "/usr/share/man/man1/loopnbd.1.gz",
        "/usr/share/man/man5/loopnbd.toml.5.gz",
        "/usr/share/bash-completion/completions/loopnbd",
        "/usr/share/zsh/vendor-completions/_loopnbd",
        "/usr/share/fish/vendor_completions.d/loopnbd.fish",
        "/usr/share/doc/loopnbd/examples/loopnbd.toml",
        "/usr/share/doc/loopnbd/examples/loopnbd.json",
        "/usr/share/doc/loopnbd/copyright",
    ):
        assert f".{path}\n" in listing, f"no {path} in\n{listing}"
    for document in (PACKAGING / "doc").glob("*.md"):  # debhelper packs what is long
        path = f"./usr/share/doc/loopnbd/{document.name}"
        assert f"{path}\n" in listing or f"{path}.gz\n" in listing, f"no {path} in\n{listing}"


def test_the_program_is_hardened(deb, tmp_path):
    images.command("dpkg-deb", "--extract", deb, tmp_path)
    options = ["--wide", "--program-headers", "--dynamic"]
    told = images.command("readelf", *options, tmp_path / "usr/bin/loopnbd")
    assert "Position-Independent Executable" in told
    # All that the linker writes is read-only before main() begins.
    assert "GNU_RELRO" in told and re.search(r"FLAGS.*\bNOW\b", told), told


# In a fresh Debian: what to run there, before the package is removed and afterwards.
INSIDE = r"""
set -ex
apt-get install -q -y --no-install-recommends /loopnbd.deb
loopnbd --version
id loopnbd
example=/usr/share/doc/loopnbd/examples/loopnbd.toml
loopnbd check-config "$example" 2>&1 | grep 'disk.img: No such file'
truncate -s 10M /var/lib/disk.img
loopnbd serve --listen unix:/run/test.sock /var/lib/disk.img & server=$!
while ! [ -S /run/test.sock ]; do kill -0 "$server"; done
kill -TERM "$server"
wait "$server"
[ ! -e /run/test.sock ]
dpkg -i /loopnbd.deb
loopnbd --version
apt-get purge -q -y loopnbd
! command -v loopnbd
find / -xdev -name '*loopnbd*' ! -path '/proc/*' ! -path /loopnbd.deb >/left-over
"""


@pytest.fixture
def sources():
    path = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
    return [path] if path.exists() else []


def test_it_installs_into_a_fresh_debian_and_can_be_removed(deb, as_root, sources, tmp_path):
    (tmp_path / "inside").write_text(INSIDE)
    root = tmp_path / "root"
    report = images.command(
        *("mmdebstrap", "--mode=root", "--variant=apt"),
        "--include=systemd-standalone-sysusers",
        f"--customize-hook=copy-in {tmp_path}/inside /",
        f'--customize-hook=cp {deb} "$1/loopnbd.deb"',
        '--customize-hook=chroot "$1" sh /inside >&2',
        f'--customize-hook=cp "$1/left-over" {tmp_path}/',
        *("bookworm", root, *sources),
        timeout=400,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        capture_output=False,
    )
    version = server.run("--version").stdout.strip()
    assert report.count(f"\n{version}\n") == 2, report
    assert (tmp_path / "left-over").read_text() == "", "left behind"


def test_build_deb_says_what_is_wrong(tmp_path):
    for arguments, words in (
        (["--build", tmp_path], "build that tree first"),
        (["--no-such-flag"], "unknown flag"),
        (["a", "b"], "one folder"),
    ):
        result = subprocess.run(
            [PACKAGING / "build-deb", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode != 0 and words in result.stderr
