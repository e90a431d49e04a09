"""Completion in bash, zsh and fish, asked of the shells themselves."""

import os
import pty
import re
import select
import subprocess
import time

import pytest
from conftest import PACKAGING

from support import documents, images, server

FOLDER = PACKAGING / "completions"

# A line that ends where the cursor is, and words that must be offered.
CASES = [
    ("loopnbd ", {"serve", "check-config", "import-config"}),
    ("loopnbd ser", {"serve"}),
    ("loopnbd --ver", {"--version"}),
    ("loopnbd serve --dir", {"--direct-io"}),
    ("loopnbd serve --read-only --", {"--listen", "--partition", "--stdio", "--help"}),
    ("loopnbd serve --direct-io ", {"auto", "on", "off"}),
    ("loopnbd serve --log-level tr", {"trace"}),
    ("loopnbd serve disk", {"disk.img"}),
    ("loopnbd check-config disk", {"disk.img"}),
]


# The control protocol's document has the table of commands (test/system/documents_test.py); `top`
# is the client's own.
CASES += [
    ("loopnbd ctl ", {*documents.commands(), "top"}),
    ("loopnbd ctl --", {"--socket", "--json", "--help"}),
    ("loopnbd ctl limit --", {"--per-client", "--read-iops", "--burst-seconds"}),
    ("loopnbd ctl remove --", {"--drain", "--now"}),
    ("loopnbd ctl add --direct-io ", {"auto", "on", "off"}),
]


@pytest.fixture
def folder(tmp_path):
    """Where the shells run: the program is the first in PATH, and there is a file."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "loopnbd").symlink_to(server.binary())
    (tmp_path / "disk.img").touch()
    return tmp_path


def environment(folder):
    return server.environment(
        PATH=f"{folder}/bin:{os.environ['PATH']}", HOME=str(folder), TERM="dumb"
    )


def shell(folder, *command, **more):
    return images.command(*command, cwd=folder, env=environment(folder), **more)


BASH = r"""
source "$1"
line=$2
read -ra COMP_WORDS <<<"$line"
[[ $line != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { [[ $* == '-o default' ]] && compgen -f -- "${COMP_WORDS[COMP_CWORD]}"; }
_loopnbd loopnbd "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("line, offered", CASES)
def test_bash_completes(folder, line, offered):
    found = shell(folder, "bash", "-c", BASH, "bash", FOLDER / "loopnbd.bash", line).split()
    assert offered <= set(found)
    assert all(word.startswith(line.split(" ")[-1]) for word in found)


@pytest.mark.parametrize("line, offered", CASES)
def test_fish_completes(folder, line, offered):
    script = f"source {FOLDER}/loopnbd.fish; complete --do-complete '{line}'"
    found = {row.split("\t")[0] for row in shell(folder, "fish", "-c", script).splitlines()}
    assert offered <= found


def zsh(folder):
    """An interactive zsh that completes with our file, in a terminal; only there it does."""
    (folder / ".zshrc").write_text(
        f"fpath=({FOLDER} $fpath)\nautoload -U compinit\ncompinit -u -d {folder}/dump\n"
        "setopt no_beep\nunsetopt zle_bracketed_paste 2>/dev/null\nunset zle_bracketed_paste\n"
        "zstyle ':completion:*' list-prompt ''\nLISTMAX=0\nPS1='ready> '\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        server.die_with_parent()
        os.execvpe("zsh", ["zsh", "-i", "-d"], environment(folder))
    return child, terminal


def read_until(terminal, pattern):
    text, deadline = "", time.monotonic() + server.WAIT_SECONDS
    while not re.search(pattern, text):
        assert time.monotonic() < deadline, f"no {pattern} in {text!r}"
        if select.select([terminal], [], [], 0.1)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
    return text


@pytest.mark.parametrize(
    "line, completed",
    [
        ("loopnbd ser", r"loopnbd serve "),
        ("loopnbd serve --dir", r"--direct-io"),
        ("loopnbd serve --direct-io au", r"--direct-io auto"),
        ("loopnbd serve --read-only --log-level tr", r"trace"),
        ("loopnbd import", r"import-config"),
        ("loopnbd serve dis", r"disk\.img"),
        ("loopnbd serve --", r"--partition"),
        ("loopnbd ctl log-l", r"loopnbd ctl log-level "),
        ("loopnbd ctl limit --per", r"--per-client"),
    ],
)
def test_zsh_completes(folder, line, completed):
    child, terminal = zsh(folder)
    try:
        read_until(terminal, r"ready> ")
        os.write(terminal, f"{line}\t".encode())
        read_until(terminal, completed)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def test_the_files_are_valid_for_their_shells():
    for program, name in (("bash", "loopnbd.bash"), ("zsh", "_loopnbd"), ("fish", "loopnbd.fish")):
        subprocess.run([program, "-n", FOLDER / name], check=True, timeout=30)
