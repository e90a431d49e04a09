"""The systemd units: systemd's own verification, its judgement of their security, and the socket
unit's way to start the program.
"""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
from conftest import PACKAGING

from support import images, nbd_client, server
from support.server import Server
from support.watching import NotifySocket

UNITS = PACKAGING / "systemd"
EXPOSURE_MAX = 1.5  # of 10; network, sockets and writable images are what it is for


@pytest.fixture
def installed(tmp_path):
    """The units in a folder, starting the program under test."""
    program = tmp_path / "loopnbd"
    program.symlink_to(server.binary())
    for unit in UNITS.glob("loopnbd*.s*"):
        text = unit.read_text().replace("/usr/bin/loopnbd", str(program))
        (tmp_path / unit.name).write_text(text)
    # An instance of each template, for what looks at units in use.
    (tmp_path / "loopnbd@disk.service").symlink_to(tmp_path / "loopnbd@.service")
    (tmp_path / "loopnbd-attach@nbd0.service").symlink_to(tmp_path / "loopnbd-attach@.service")
    return tmp_path


@pytest.mark.parametrize(
    "unit",
    [
        "loopnbd.service",
        "loopnbd@disk.service",
        "loopnbd.socket",
        "loopnbd-attach@nbd0.service",
    ],
)
def test_systemd_finds_nothing_wrong_with_a_unit(installed, unit):
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed / unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in result.stderr.splitlines() if "loopnbd" in line]
    assert complaints == [] and result.returncode == 0, result.stderr


def test_systemd_would_find_a_mistake_in_a_unit(installed):
    unit = installed / "loopnbd.service"
    unit.write_text(unit.read_text().replace("PrivateTmp=yes", "PrivateTemp=yes"))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "PrivateTemp" in result.stderr


@pytest.mark.parametrize("unit", ["loopnbd.service", "loopnbd@disk.service"])
def test_the_exposure_that_systemd_sees_is_low(installed, unit, capsys):
    report = images.command(
        "systemd-analyze", "security", "--offline=yes", "--no-pager", installed / unit
    )
    exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", report).group(1))
    with capsys.disabled():
        print(f"\n{unit}: exposure {exposure} of 10 (systemd-analyze security)")
    assert exposure <= EXPOSURE_MAX, report


def test_the_template_differs_from_the_unit_in_its_configuration_only():
    unit = (UNITS / "loopnbd.service").read_text()
    template = (UNITS / "loopnbd@.service").read_text()
    changed = [
        (before, after)
        for before, after in zip(unit.splitlines(), template.splitlines(), strict=True)
        if before != after
    ]
    for before, after in changed:
        assert after == before.replace("/etc/loopnbd/loopnbd.toml", "/etc/loopnbd/%i.toml") or (
            before.startswith(("Description=", "#"))
        ), (before, after)


def test_the_flags_in_the_units_are_those_of_the_program(tmp_path):
    """The command of ExecStart, with the configuration elsewhere."""
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[[export]]\npath = "{image}"\n')
    text = (UNITS / "loopnbd.service").read_text()
    (line,) = re.findall(r"^ExecStart=/usr/bin/loopnbd (.*)$", text, re.MULTILINE)
    command, *arguments = line.replace("/etc/loopnbd/loopnbd.toml", str(config)).split()
    assert command == "serve"
    path = tmp_path / "nbd.sock"
    running = Server([*arguments, "--listen", f"unix:{path}"], str(path))
    running.wait_until_listening().stop()


def test_the_service_is_ready_and_reloads_as_the_unit_asks(tmp_path):
    """Its Type=, and what ExecReload= does, with a socket in the place of systemd's."""
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    path, config = tmp_path / "nbd.sock", tmp_path / "loopnbd.toml"
    config.write_text(f'listen = ["unix:{path}"]\n[[export]]\npath = "{image}"\n')
    unit = (UNITS / "loopnbd.service").read_text()
    assert "\nType=notify\n" in unit
    (reload,) = re.findall(r"^ExecReload=(.*)$", unit, re.MULTILINE)
    with NotifySocket(tmp_path / "notify") as manager:
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "120000000"}
        running = Server(["--config", config], str(path), env=environ)
        assert manager.wait_for("READY=1") == 0
        assert manager.wait_for("WATCHDOG=1") is not None
        images.command(*reload.replace("$MAINPID", str(running.pid)).split())
        begun = manager.wait_for("RELOADING=1")
        assert begun is not None and manager.wait_for("READY=1", after=begun) is not None
        running.stop()
        assert manager.wait_for("STOPPING=1") is not None


def test_the_socket_unit_starts_the_service_by_its_first_client(tmp_path):
    """systemd-socket-activate with the addresses of loopnbd.socket and the flags of the service.
    The configuration names them, as the example does; nothing is reachable from outside.
    """
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    config = tmp_path / "loopnbd.toml"
    listened = re.findall(r"^ListenStream=(.*)$", (UNITS / "loopnbd.socket").read_text(), re.M)
    assert listened == ["127.0.0.1:10809"]
    (example,) = re.findall(r"^listen = (.*)$", (PACKAGING / "loopnbd.toml").read_text(), re.M)
    assert listened[0] in json.loads(example)
    port = server.free_port()
    config.write_text(f'listen = ["127.0.0.1:{port}"]\n[[export]]\npath = "{image}"\n')
    process = subprocess.Popen(
        [
            *("systemd-socket-activate", "-l", f"127.0.0.1:{port}"),
            *(f"-E{name}" for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")),
            *(server.binary(), "serve", "--config", config),
        ],
        env=server.environment(),
        preexec_fn=server.die_with_parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = ("127.0.0.1", port)
    try:
        while not server.is_listening(address):
            assert process.poll() is None
        connection = Server.connect(type("Address", (), {"address": address}))
        with nbd_client.Client(connection) as client:
            assert client.start().read(0, 512) == image.read_bytes()[:512]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=server.WAIT_SECONDS)
    assert process.returncode == 0 and "Sanitizer" not in errors, errors


def test_the_system_calls_of_serving_are_those_that_the_unit_allows(tmp_path):
    """strace of a server at work beside systemd-analyze's list of the filter."""
    allowed = allowed_system_calls()
    assert {"io_submit", "fallocate", "preadv2"} <= allowed
    assert not {"mount", "ptrace", "bpf", "init_module", "setuid"} & allowed
    image = images.make_image(tmp_path / "disk.img", 8 * images.MIB)
    path, trace = tmp_path / "nbd.sock", tmp_path / "trace"
    program = pathlib.Path(server.binary())
    process = subprocess.Popen(
        [
            *("strace", "-f", "-qq", "-o", trace, program, "serve"),
            *("--listen", f"unix:{path}", image),
        ],
        # The leak detector does not work below strace.
        env=server.environment(ASAN_OPTIONS="detect_leaks=0"),
        preexec_fn=server.die_with_parent,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not server.is_listening(str(path)):
            assert process.poll() is None
        uri = f"nbd+unix:///?socket={path}"
        images.command("nbdcopy", "--flush", image, uri)
        images.command("nbdcopy", uri, tmp_path / "copy.img")
        images.command("nbdinfo", "--map", uri)
        images.command("qemu-io", "-f", "raw", "-c", "write -z 0 64k", "-c", "discard 1M 64k", uri)
    finally:
        # strace ends with what it traces, and with nothing else.
        os.kill(int(trace.read_text().split()[0]), signal.SIGTERM)
        process.wait(server.WAIT_SECONDS)
    used = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(), re.MULTILINE))
    assert {"io_submit", "fallocate", "execve"} <= used
    # The system calls of the sanitizers at start and end are not the program's.
    assert used - allowed - {"ptrace", "sigaltstack", "execve"} == set()


def allowed_system_calls():
    lines = re.findall(
        r"^SystemCallFilter=(.*)$", (UNITS / "loopnbd.service").read_text(), re.MULTILINE
    )
    allowed = set()
    for line in lines:
        for name in line.lstrip("~").split():
            calls = expand(name)
            allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def expand(name):
    if not name.startswith("@"):
        return {name}
    listing = images.command("systemd-analyze", "syscall-filter", "--no-pager", name)
    names = [line.strip() for line in listing.splitlines()[1:]]
    found = set()
    for entry in names:
        if entry and not entry.startswith("#"):
            found |= expand(entry)
    return found
