"""The configuration file: what it can say, and what is refused, with file, line, key and what to
do.
"""

import pytest

from support import images, server

EXPORT = '[[export]]\nname = "disk"\npath = "disk.img"\n'


@pytest.fixture
def check(tmp_path):
    """check(text): the result of check-config, run where disk.img lies."""
    images.make_image(tmp_path / "disk.img", images.MIB)

    def run(text):
        (tmp_path / "loopnbd.toml").write_text(text)
        return server.run("check-config", "loopnbd.toml", cwd=tmp_path)

    return run


def test_a_file_with_every_key_is_accepted(check):
    result = check(
        """
listen = ["127.0.0.1:10809", "[::1]:10810", "unix:/tmp/loopnbd-test.sock"]
workers = 2
memory = "64M"
max_connections = 1000
log_level = "debug"
[[export]]
name = "disk"
path = "disk.img"
description = "the demo disk"
read_only = true
offset = "4K"
size = "8K"
direct_io = "auto"
lock = false
"""
    )
    assert result.returncode == 0, result.stderr


# (text, line, words): the message must hold "loopnbd.toml:LINE" and the words.
REFUSED = {
    "unknown key": ("colour = 3\n" + EXPORT, 1, ["colour", "workers"]),
    "unknown key of an export": (EXPORT + "sise = 5\n", 4, ["sise", "size"]),
    "text for a number": ('workers = "two"\n' + EXPORT, 1, ["workers", "number"]),
    "number out of range": ("workers = 0\n" + EXPORT, 1, ["workers"]),
    "negative number": ("max_connections = -1\n" + EXPORT, 1, ["max_connections"]),
    "fraction": ("workers = 1.5\n" + EXPORT, 1, ["workers"]),
    "text for a boolean": (EXPORT + 'read_only = "yes"\n', 4, ["read_only", "true or false"]),
    "number for a text": ("[[export]]\nname = 1\n" + 'path = "disk.img"\n', 2, ["name"]),
    "no list": ('listen = "127.0.0.1:10809"\n' + EXPORT, 1, ["listen", "list"]),
    "wrong list element": ("listen = [5]\n" + EXPORT, 1, ["listen"]),
    "bad address": ('listen = ["127.0.0.1"]\n' + EXPORT, 1, ["listen", "127.0.0.1"]),
    "bad size": (EXPORT + 'size = "1X"\n', 4, ["size", "1X"]),
    "negative size": (EXPORT + "size = -5\n", 4, ["size"]),
    "size beyond 64 bits": (EXPORT + 'size = "99999999999999999999"\n', 4, ["size"]),
    "impossible memory": ('memory = "1K"\n' + EXPORT, 1, ["memory"]),
    "bad direct_io": (EXPORT + 'direct_io = "yes"\n', 4, ["direct_io", "auto, on, off"]),
    "bad log level": ('log_level = "loud"\n' + EXPORT, 1, ["log_level", "debug"]),
    "no path": ('\n[[export]]\nname = "disk"\n', 2, ["path"]),
    "empty name": ('[[export]]\nname = ""\npath = "disk.img"\n', 2, ["name"]),
    "one bracket": ('[export]\nname = "disk"\npath = "disk.img"\n', 1, ["[[export]]"]),
    "syntax error": ("workers = \n", 1, []),
    "missing file": (
        '[[export]]\nname = "disk"\npath = "missing.img"\n',
        3,
        ["path", "missing.img", "No such file"],
    ),
    "no file but a folder": ('[[export]]\nname = "disk"\npath = "."\n', 3, ["path"]),
    "offset beyond the end": (EXPORT + 'offset = "8M"\n', 4, ["offset"]),
    "size beyond the end": (EXPORT + 'size = "8M"\n', 4, ["size"]),
    "duplicate name": (EXPORT + EXPORT, 5, ["name", "disk"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_refused_with_file_line_key_and_remedy(case, check):
    text, line, words = REFUSED[case]
    result = check(text)
    assert result.returncode > 0 and result.returncode != 99, result
    assert f"loopnbd.toml:{line}" in result.stderr, result.stderr
    for word in words:
        assert word in result.stderr, f"no {word!r} in {result.stderr}"


def test_a_file_without_exports_is_refused(check):
    result = check("workers = 1\n")
    assert result.returncode > 0 and "[[export]]" in result.stderr


def test_a_missing_configuration_is_refused_by_name(tmp_path):
    result = server.run("check-config", tmp_path / "missing.toml")
    assert result.returncode > 0
    assert "missing.toml: No such file or directory" in result.stderr


def test_serve_refuses_what_check_config_refuses(tmp_path, image):
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'colour = 3\n[[export]]\npath = "{image}"\n')
    result = server.run("serve", "--config", config)
    assert result.returncode > 0 and "loopnbd.toml:1" in result.stderr and "colour" in result.stderr


def test_a_configuration_is_served_as_it_says(tmp_path, image):
    path = tmp_path / "nbd.sock"
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        f"""
listen = ["unix:{path}"]
workers = 2
[[export]]
name = "window"
path = "{image}"
description = "a window into the disk"
read_only = true
offset = "1M"
size = 12288
"""
    )
    running = server.Server(["--config", config], str(path)).wait_until_listening()
    with running.client("window") as client:
        assert client.size == 12288
        assert client.transmission_flags & 2, "not read-only"
        assert client.read(0, 12288) == image.read_bytes()[images.MIB : images.MIB + 12288]
    running.stop()


def test_the_command_line_takes_precedence_over_the_file(serve, tmp_path, image):
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'listen = ["unix:{tmp_path}/other.sock"]\n[[export]]\npath = "{image}"\n')
    running = serve("--config", config)
    assert not server.is_listening(f"{tmp_path}/other.sock")
    with running.client("disk.img") as client:
        assert client.size == image.stat().st_size
