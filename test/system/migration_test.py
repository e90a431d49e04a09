"""packaging/doc/migration.md: commands of other servers and ours side by side do the same."""

import contextlib
import re
import shlex
import subprocess

import pytest

from support import images
from support.server import ROOT, WAIT_SECONDS, binary, die_with_parent, environment, is_listening

MIB = images.MIB
PAGE = (ROOT / "packaging" / "doc" / "migration.md").read_text()
# How each is told the socket to listen on; what comes first stands in the page, or is added.
SOCKET = {"nbdkit": ("-U", ""), "qemu-nbd": ("-k", ""), "loopnbd": ("--listen", "unix:")}


def jobs():
    """{title: [command]}: those that serve something, as the page has them."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^\| \**(nbdkit|qemu-nbd|loopnbd)\** \| `([^`]+)`", text, re.MULTILINE)
        commands = [command for tool, command in rows if command.startswith(tool)]
        found[title] = [command for command in commands if "…" not in command]
    return {title: commands for title, commands in found.items() if len(commands) > 1}


@contextlib.contextmanager
def served(command, folder, path):
    """Runs a command of the page in `folder`, listening at `path`."""
    words = shlex.split(command)
    tool = words[0]
    flag, prefix = SOCKET[tool]
    if flag in words:
        words[words.index(flag) + 1] = f"{prefix}{path}"
    else:
        words[-1:-1] = [flag, f"{prefix}{path}"] if tool == "loopnbd" else []
        words[1:1] = [flag, f"{prefix}{path}"] if tool != "loopnbd" else []
    words[0] = binary() if tool == "loopnbd" else tool
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment(),
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        while not is_listening(path):
            assert process.poll() is None, f"{words} ended with {process.returncode}"
        yield
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def test_the_page_has_the_jobs_that_people_come_for():
    assert len(jobs()) >= 6
    for tool in ("nbdkit", "qemu-nbd", "nbd-server", "loop driver"):
        assert f"| {tool} |" in PAGE
    for commands in jobs().values():
        assert commands[-1].startswith("loopnbd "), commands


@pytest.mark.parametrize("title", jobs())
def test_commands_that_stand_side_by_side_serve_the_same(title, tmp_path):
    disk = images.make_image(tmp_path / "disk.img", 64 * MIB)
    images.command("sfdisk", "-q", disk, input="label: gpt\nsize=8M\nsize=16M, name=second\n")
    seen = {}
    for number, command in enumerate(jobs()[title]):
        path = str(tmp_path / f"{number}.sock")
        name = "disk" if re.search(r"-x disk|disk=disk\.img", command) else ""
        uri = f"nbd+unix:///{name}?socket={path}"
        with served(command, tmp_path, path):
            copy = tmp_path / "copy.img"
            images.command("nbdcopy", uri, copy)
            read_only = subprocess.run(
                ["nbdinfo", "--is", "read-only", uri], timeout=WAIT_SECONDS, check=False
            ).returncode
            seen[command] = (copy.stat().st_size, images.sha256(copy), read_only)
            copy.unlink()
    assert len(set(seen.values())) == 1, seen


def test_the_command_for_one_copy_makes_it(tmp_path):
    disk = images.make_image(tmp_path / "disk.img", 4 * MIB)
    commands = re.findall(r"`(nbdcopy -- \[ [^`]+)`", PAGE)
    assert len(commands) == 2
    for command in commands:
        words = [binary() if word == "loopnbd" else word for word in shlex.split(command)]
        images.command(*words, cwd=tmp_path, env=environment())
        assert images.sha256(tmp_path / "copy.img") == images.sha256(disk)
        (tmp_path / "copy.img").unlink()
