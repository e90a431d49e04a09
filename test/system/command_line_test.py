"""The command line: help, version, and what is refused before anything listens."""

import time

import pytest

from support import images, server
from support.control import Control

USAGE_ERROR = 2


def test_help_names_the_commands_and_the_version_option():
    result = server.run("--help")
    assert result.returncode == 0
    assert (
        "serve" in result.stdout
        and "check-config" in result.stdout
        and "--version" in result.stdout
    )


def test_help_of_serve_names_every_documented_option():
    result = server.run("serve", "--help")
    assert result.returncode == 0
    for option in (
        "--config",
        "--listen",
        "--read-only",
        "--offset",
        "--size",
        "--direct-io",
        "--workers",
        "--memory",
        "--max-connections",
        "--stdio",
        "--log-level",
        "FILE",
    ):
        assert option in result.stdout, option


def test_version_is_the_name_and_three_numbers():
    result = server.run("--version")
    assert result.returncode == 0
    name, number = result.stdout.split()
    assert name == "loopnbd"
    assert len([int(part) for part in number.split(".")]) == 3


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "a command is missing; there are serve, check-config,"),
        (("frobnicate",), '"frobnicate" is not a command; there are serve,'),
        (("ctl",), "a command is missing; there are status, connections,"),
        (("ctl", "frobnicate"), '"frobnicate" is not a command; there are status,'),
        (("ctl", "resize"), "EXPORT"),
        (("ctl", "disconnect"), "disconnect: give one of CONNECTION, --export"),
        (("serve", "--frobnicate"), "--frobnicate"),
        (("serve", "--workers", "none", "disk.img"), "none"),
        (("serve", "--workers", "0", "disk.img"), "--workers"),
        (("serve", "--direct-io", "perhaps", "disk.img"), "auto,on,off"),
        (("serve", "--log-level", "loud", "disk.img"), "debug"),
        (("check-config",), "FILE"),
        (("serve", "--max-connections", "0", "disk.img"), "--max-connections"),
    ],
)
def test_wrong_usage_is_told_on_stderr_and_ends_with_status_2(arguments, words, image):
    result = server.run(*arguments, cwd=image.parent)
    assert result.returncode == USAGE_ERROR, result
    assert result.stderr.startswith("loopnbd: ") and words in result.stderr, result.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("serve",), ["file"]),
        (("serve", "missing.img"), ["missing.img", "No such file"]),
        (("serve", "."), ["."]),
        (("serve", "disk.img", "--offset", "8M"), ["disk.img", "offset"]),
        (("serve", "disk.img", "--size", "8M"), ["disk.img", "size"]),
        (("serve", "disk.img", "--offset", "2M", "--size", "3M"), ["disk.img"]),
        (("serve", "disk.img", "--size", "12Q"), ["12Q"]),
        (("serve", "disk.img", "--size", "-1"), ["-1"]),
        (("serve", "disk.img", "--offset", "99999999999G"), ["99999999999G"]),
        (("serve", "disk.img", "--memory", "1K"), ["memory"]),
        (("serve", "disk.img", "./disk.img"), ["disk.img", "NAME=FILE"]),
        (("serve", "a=disk.img", "a=disk.img"), ["two", "a"]),
        (("serve", "=disk.img"), ["NAME=FILE"]),
        (("serve", "disk.img", "--read-iops", "many"), ["many"]),
        (("serve", "disk.img", "--description", "x" * 5000), ["description"]),
        (("serve", "disk.img", "--listen", "nonsense"), ["nonsense"]),
        (("serve", "disk.img", "--listen", "127.0.0.1:99999"), ["99999"]),
        (("serve", "disk.img", "--listen", "unix:"), ["unix:"]),
        (
            ("serve", "disk.img", "--listen", "unix:/missing/folder/socket"),
            ["/missing/folder/socket", "make the folder"],
        ),
        (("serve", "disk.img", "--listen", "unix:/" + "x" * 200), ["x" * 200]),
        (("serve", "disk.img", "--listen", "192.0.2.1:10809"), ["no interface of this machine"]),
        (("serve", "--tls-psk-file", "keys.psk", "disk.img"), ["keys.psk", "No such file"]),
        (("serve", "--stdio", "--listen", "127.0.0.1:0", "disk.img"), ["--stdio"]),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(arguments, words, image):
    result = server.run(*arguments, cwd=image.parent)
    assert result.returncode not in (0, 99) and result.returncode > 0, result
    assert "Sanitizer" not in result.stderr and "terminate" not in result.stderr
    for word in words:
        assert word in result.stderr, f"no {word!r} in {result.stderr}"


def test_a_port_in_use_is_refused_with_its_address(serve, image, tmp_path):
    first = serve(image, listen="tcp")
    address = "127.0.0.1:%d" % first.address[1]
    other = images.make_image(tmp_path / "other.img", 1024)
    result = server.run("serve", "--listen", address, other)
    assert result.returncode > 0
    assert address in result.stderr and "in use" in result.stderr


def test_the_start_says_name_size_mode_and_how_to_attach(serve, image):
    running = serve("--direct-io", "off", f"root={image}", listen="tcp")
    with running.client("root"):
        pass
    log = running.stop()
    line = next(line for line in log.splitlines() if "root" in line and "buffered" in line)
    assert str(image.stat().st_size) in line.replace(",", "") or "4 MiB" in line or "4M" in line
    assert f":{running.address[1]}" in log
    for client in ("nbd-client", "nbd://", "qemu"):
        assert client in log, f"no ready-made command for {client}"


def test_limits_and_description_are_flags_of_the_names_that_the_configuration_has(
    serve, image, tmp_path
):
    control = Control(tmp_path / "control.sock")
    server = serve(
        *("--read-iops", "5000", "--write-iops", "30", "--read-bytes", "2M"),
        *("--write-bytes", "100M", "--burst-seconds", "0.2", "--description", "a few words"),
        *("--control", control.path, image),
    )
    exported = control.export("disk.img")
    assert exported["limits"] == {
        "read_iops": 5000,
        "write_iops": 30,
        "read_bytes": 2 << 20,
        "write_bytes": 100 << 20,
        "burst_seconds": 0.2,
    }
    assert exported["description"] == "a few words"
    with server.client() as client:
        begin = time.monotonic()
        for index in range(16):
            client.write(index * 512, b"x" * 512)
        assert time.monotonic() - begin > 0.2  # 6 at once, and then 30 a second


def test_the_name_of_a_file_is_its_base_name_unless_another_is_given(serve, tmp_path):
    for name in ("a.img", "b.img"):
        images.make_image(tmp_path / name, 4096, seed=ord(name[0]))
    running = serve(tmp_path / "a.img", f"second={tmp_path / 'b.img'}")
    for name, file in (("a.img", "a.img"), ("second", "b.img"), ("", "a.img")):
        with running.client(name) as client:
            assert client.read(0, 4096) == (tmp_path / file).read_bytes()


def test_an_equals_sign_in_a_folder_is_part_of_the_path(serve, tmp_path):
    folder = tmp_path / "a=b"
    folder.mkdir()
    images.make_image(folder / "disk.img", 4096)
    with serve(folder / "disk.img").client("disk.img") as client:
        assert client.size == 4096
