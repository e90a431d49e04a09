"""The manual pages say everything that --help and the reader of the configuration know."""

import pathlib
import re
import subprocess

import pytest
from conftest import PACKAGING

from support import documents, images, server

# The build fills the lists of flags and keys in.
PAGES = pathlib.Path(server.binary()).parent / "man"


def rendered(page):
    return subprocess.run(
        ["groff", "-mandoc", "-Tascii", "-P-cbou", PAGES / page],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def commands_of(help_text):
    if "Subcommands:" not in help_text:
        return []
    return re.findall(r"^  ([a-z][a-z-]*) ", help_text.split("Subcommands:")[1], re.MULTILINE)


def all_help(*command):
    """(command, help) of the program and of its commands at any depth."""
    result = server.run(*command, "--help")
    assert result.returncode == 0, result.stderr
    yield command, result.stdout
    for name in commands_of(result.stdout):
        yield from all_help(*command, name)


def test_every_command_and_flag_is_in_the_manual_page():
    page = rendered("loopnbd.1")
    missing = []
    count = 0
    for command, text in all_help():
        if command and command[-1] not in page:
            missing.append(command)
        for flag in re.findall(r"^  (?:-.,)?(--[a-z0-9-]+)", text, re.MULTILINE):
            count += 1
            if not re.search(rf"{flag}(?![a-z0-9-])", page):
                missing.append((*command, flag))
    assert missing == [] and count > 15


def test_the_manual_page_has_no_flag_that_is_not_there():
    known = {flag for _, text in all_help() for flag in re.findall(r"--[a-z0-9-]+", text)}
    page = rendered("loopnbd.1").split("SEE ALSO")[0]
    assert set(re.findall(r"--[a-z][a-z0-9-]+", page)) - known == set()


def test_the_commands_of_ctl_are_those_of_the_control_protocol():
    page = (PAGES / "loopnbd.1").read_text()
    section = page.split(".Sh CHANGING A RUNNING SERVER")[1].split(".Sh ")[0]
    commands = {*documents.commands(), "top"}
    assert set(re.findall(r"^\.It Cm ([a-z-]+)", section, re.MULTILINE)) == commands
    assert set(commands_of(server.run("ctl", "--help").stdout)) == commands


def known_keys(tmp_path, *tables):
    """The keys that the reader lists when it refuses an unknown one, with those of the tables in
    it.
    """
    config = tmp_path / "loopnbd.toml"
    if tables == ("export",):
        header = '[[export]]\npath = "x"\n'
    elif tables[:1] == ("export",):
        header = f'[[export]]\npath = "x"\n[export.{".".join(tables[1:])}]\n'
    elif tables:
        header = f"[{'.'.join(tables)}]\n"
    else:
        header = ""
    config.write_text(header + "no-such-key = 1\n")
    refusal = server.run("check-config", config).stderr
    match = re.search(r"no-such-key: unknown key; the known ones here are (.*)", refusal)
    if not match:  # no table
        return
    for key in match.group(1).split(", "):
        yield (*tables, key)
        yield from known_keys(tmp_path, *tables, key)


def test_every_key_of_the_configuration_is_in_the_manual_page(tmp_path):
    page = (PAGES / "loopnbd.toml.5").read_text()
    sections = re.split(r"^\.Sh EXPORTS$", page, flags=re.MULTILINE)
    of_server, of_export = (
        set(re.findall(r"^\.It Ic (\S+)", section, re.MULTILINE)) for section in sections
    )
    documented = of_server | {f"export.{key}" for key in of_export}
    known = {".".join(key) for key in known_keys(tmp_path)}
    tables = {name.rpartition(".")[0] for name in known}
    assert {"listen", "export.path", "tls.mode"} <= documented
    assert known - tables == documented


@pytest.mark.parametrize("page", ["loopnbd.1", "loopnbd.toml.5"])
def test_the_pages_are_well_formed(page):
    images.command("mandoc", "-Tlint", "-Wwarning", PAGES / page)
    result = subprocess.run(
        ["groff", "-mandoc", "-Tutf8", "-ww", "-z", PAGES / page],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stderr == ""


def test_the_example_is_accepted(tmp_path):
    image = images.make_sparse_image(tmp_path / "disk.img", images.MIB)
    text = (PACKAGING / "loopnbd.toml").read_text()
    assert "/var/lib/loopnbd/disk.img" in text
    config = tmp_path / "loopnbd.toml"
    config.write_text(text.replace("/var/lib/loopnbd/disk.img", str(image)))
    assert server.run("check-config", config).returncode == 0
