"""`loopnbd import-config`: configurations of nbd-server, its own samples among them, and both
servers beside each other.
"""

import pathlib
import subprocess
import tomllib

import pytest

from support import images, server
from support.server import Server

SAMPLE = pathlib.Path("/usr/share/nbd-server/nbd-server.conf.tmpl")  # of Debian's nbd-server


@pytest.fixture
def imported(tmp_path):
    """imported(text, expect=0): the result of import-config, its TOML parsed where it succeeds."""

    def run(text, expect=0):
        path = tmp_path / "config"
        path.write_text(text)
        result = server.run("import-config", path)
        assert result.returncode == expect, result.stderr
        result.path = path
        result.toml = tomllib.loads(result.stdout)
        return result

    return run


def exports_of(result):
    return {entry["name"]: entry for entry in result.toml.get("export", [])}


def test_the_simple_example_of_the_manual_page(imported):
    result = imported("[generic]\n[export]\n    exportname = /export/blkdev\n")
    assert result.toml == {
        "listen": ["[::]:10809", "0.0.0.0:10809"],
        "export": [{"name": "export", "path": "/export/blkdev"}],
    }


def test_debians_own_configuration_is_translated_and_served(tmp_path):
    """The sample of the package with its include folder moved, and an export in that folder."""
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    folder = tmp_path / "conf.d"
    folder.mkdir()
    sample = SAMPLE.read_text()
    assert "/etc/nbd-server/conf.d" in sample
    socket = tmp_path / "nbd.sock"
    config = tmp_path / "config"
    config.write_text(sample.replace("/etc/nbd-server/conf.d", str(folder)))
    result = server.run("import-config", config)
    assert result.returncode > 0 and "no exports" in result.stderr

    (folder / "a.conf").write_text(f"[disk]\nexportname = {image}\nreadonly = true\n")
    (folder / "ignored.txt").write_text("not a configuration")
    result = server.run("import-config", config)
    assert result.returncode == 0, result.stderr
    assert "group = nbd: no equivalent" in result.stderr
    assert tomllib.loads(result.stdout)["user"] == "nbd"
    translated = tmp_path / "loopnbd.toml"
    translated.write_text(result.stdout)
    assert server.run("check-config", translated).returncode == 0
    running = Server(["--config", translated, "--listen", f"unix:{socket}"], str(socket))
    with running.wait_until_listening().client("disk") as client:
        assert client.transmission_flags & 2, "not read-only"
        assert client.read(0, 4096) == image.read_bytes()[:4096]
    running.stop()


def test_what_nbd_server_itself_writes_is_translated(imported):
    """`nbd-server -o` turns a command line into a section."""
    section = subprocess.run(
        ["nbd-server", "2000", "/export/disk", "1M", "-r", "-C", "/dev/null", "-o", "disk"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    ).stdout
    assert "[disk]" in section
    result = imported("[generic]\n" + section)
    disk = exports_of(result)["disk"]
    assert disk["path"] == "/export/disk" and disk["read_only"] is True
    assert disk["size"] == images.MIB


def test_both_servers_serve_the_same_from_one_configuration(tmp_path):
    whole = images.make_image(tmp_path / "whole.img", 3 * images.MIB + 512, seed=1)
    part = images.make_image(tmp_path / "part.img", 2 * images.MIB, seed=2)
    config = tmp_path / "config"
    unix_path = tmp_path / "their.sock"
    config.write_text(
        f"[generic]\nunixsock = {unix_path}\nallowlist = true\n"
        f"[whole]\nexportname = {whole}\nreadonly = true\nflush = true\n"
        f"[part]\nexportname = {part}\nfilesize = 1048576\ntrim = true\nfua = true\n"
    )
    result = server.run("import-config", config)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert tomllib.loads(result.stdout)["listen"] == [f"unix:{unix_path}"]

    seen = {
        name: copy_from_nbd_server(config, unix_path, name, tmp_path / f"their-{name}")
        for name in ("whole", "part")
    }
    translated = tmp_path / "loopnbd.toml"
    translated.write_text(result.stdout)
    running = Server(["--config", translated], str(unix_path)).wait_until_listening()
    for name, content in seen.items():
        assert copy_of(unix_path, name, tmp_path / f"our-{name}") == content
    assert seen["part"] == part.read_bytes()[: images.MIB]
    running.stop()


def copy_of(socket, name, target):
    images.command("nbdcopy", "--connections=1", f"nbd+unix:///{name}?socket={socket}", target)
    return target.read_bytes()


def copy_from_nbd_server(config, socket, name, target):
    """With -d it does not fork: it serves one client, and dies with the test."""
    theirs = subprocess.Popen(
        ["nbd-server", "-C", str(config), "-d"],
        preexec_fn=server.die_with_parent,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not server.is_listening(str(socket)):
            assert theirs.poll() is None
        return copy_of(socket, name, target)
    finally:
        theirs.kill()
        theirs.wait(server.WAIT_SECONDS)
        socket.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "generic, listen",
    [
        ("port = 2000", ["[::]:2000", "0.0.0.0:2000"]),
        ("listenaddr = 127.0.0.1, ::1", ["127.0.0.1:10809", "[::1]:10809"]),
        ("unixsock = /run/nbd.sock", ["unix:/run/nbd.sock"]),
        (
            "unixsock = /run/nbd.sock\nduallisten = true\nlistenaddr = 10.0.0.1\nport = 1",
            ["unix:/run/nbd.sock", "10.0.0.1:1"],
        ),
    ],
)
def test_listen_addresses_are_translated(imported, generic, listen):
    result = imported(f"[generic]\nallowlist = true\n{generic}\n[a]\nexportname = /a\n")
    assert result.toml["listen"] == listen and result.stderr == ""


# Lines of an export, and what is said about it; it is served all the same.
NO_EQUIVALENT = [
    "sync = true",
    "rotational = true",
    "splice = true",
    "prerun = /bin/prepare %s",
    "postrun = /bin/clean",
    "transactionlog = /var/log/nbd",
    "timeout = 30",
    "maxconnections = 5",
    "copyonwrite = true",
    "colour = red",
]


@pytest.mark.parametrize("line", NO_EQUIVALENT)
def test_what_has_no_equivalent_is_said_with_file_and_line(imported, line):
    result = imported(f"[generic]\nallowlist = true\n[a]\nexportname = /a\n{line}\n")
    key = line.split()[0]
    (note,) = result.stderr.splitlines()
    assert f"{result.path}:" in note and key in note, note
    assert f"# {note.removeprefix('loopnbd: note: ')}" in result.stdout
    assert exports_of(result)["a"].get("read_only", False) == (key == "copyonwrite")


@pytest.mark.parametrize(
    "lines",
    [
        "exportname = /a\nmultifile = true",
        "exportname = /a\ntreefiles = true\nfilesize = 4096",
        "exportname = /a\ntemporary = true\nfilesize = 4096",
        "exportname = /a\nwaitfile = true",
        "exportname = /a\nforce_tls = true",
        "exportname = /srv/%s",
    ],
)
def test_what_cannot_be_served_is_left_out(imported, lines):
    result = imported(f"[generic]\nallowlist = true\n[a]\n{lines}\n[b]\nexportname = /b\n")
    assert list(exports_of(result)) == ["b"]
    assert "[a] is left out" in result.stderr


def test_values_that_change_nothing_are_not_mentioned(imported):
    result = imported(
        "[generic]\nallowlist = true\n[a]\nexportname = /srv/%s\nvirtstyle = none\n"
        "sync = false\ntimeout = 0\nmultifile = false\nflush = true\nfua = true\ntrim = true\n"
    )
    assert exports_of(result) == {"a": {"name": "a", "path": "/srv/%s"}}
    assert result.stderr == ""


def test_names_and_paths_of_any_kind_survive(imported):
    name, path = 'a "quoted" näme', "/srv/back\\slash"
    result = imported(f"[generic]\n[{name}]\nexportname = /srv/back\\\\slash\n")
    assert exports_of(result) == {name: {"name": name, "path": path}}


def test_the_example_with_an_authfile_lets_the_same_clients_in(imported, tmp_path):
    """The second example of nbd-server(5); its 192.168.0.0/8 has bits behind the prefix."""
    allow = tmp_path / "allow"
    allow.write_text("127.0.0.1\n192.168.0.0/8\n192.168.1.1\n\n# nobody\nfe80::1:0/112 # more\n")
    result = imported(
        "[generic]\n    user = nbd\n    group = nbd\n"
        f"[export]\n    exportname = /export/blkdev\n    authfile = {allow}\n"
    )
    assert exports_of(result)["export"]["allow"] == [
        "127.0.0.1",
        "192.0.0.0/8",
        "192.168.1.1",
        "fe80::1:0/112",
    ]
    assert result.toml["user"] == "nbd"


def test_an_authfile_that_names_nobody_leaves_the_export_out(imported, tmp_path):
    for text in ("", "# only a comment\n", "host.example\n10.0.0.0/33\n"):
        (tmp_path / "allow").write_text(text)
        result = imported(f"[generic]\n[a]\nexportname = /a\nauthfile = {tmp_path}/allow\n")
        assert exports_of(result) == {} and "nobody is let in" in result.stderr
    result = imported("[generic]\n[a]\nexportname = /a\nauthfile = /does/not/exist\n")
    assert exports_of(result) == {"a": {"name": "a", "path": "/a"}}
    assert "every client is let in" in result.stderr


def test_the_translation_lets_in_and_keeps_out_as_nbd_server_does(tmp_path):
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    port = server.free_port()
    (tmp_path / "us").write_text("127.0.0.0/8\n")
    (tmp_path / "others").write_text("10.0.0.0/8\n")
    config = tmp_path / "config"
    config.write_text(
        f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n"
        f"[ours]\nexportname = {image}\nreadonly = true\nauthfile = {tmp_path}/us\n"
        f"[theirs]\nexportname = {image}\nreadonly = true\nauthfile = {tmp_path}/others\n"
    )
    translated = tmp_path / "loopnbd.toml"
    translated.write_text(server.run("import-config", config).stdout)
    running = Server(["--config", translated], ("127.0.0.1", port)).wait_until_listening()
    assert images.command("nbdinfo", "--size", running.uri("ours")).strip() == str(images.MIB)
    refused = subprocess.run(
        ["nbdinfo", "--size", running.uri("theirs")], capture_output=True, check=False, timeout=60
    )
    assert refused.returncode != 0
    running.stop()


def test_tls_is_translated_and_served(tmp_path):
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    images.command(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", key),
    )
    (tmp_path / "ca-cert.pem").write_bytes(certificate.read_bytes())
    port = server.free_port()
    config = tmp_path / "config"
    config.write_text(
        f"[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nallowlist = true\n"
        f"certfile = {certificate}\nkeyfile = {key}\n"
        f"[secret]\nexportname = {image}\nreadonly = true\nforce_tls = true\n"
        f"[open]\nexportname = {image}\nreadonly = true\n"
    )
    result = server.run("import-config", config)
    assert result.returncode == 0 and result.stderr == ""
    translated = tmp_path / "loopnbd.toml"
    translated.write_text(result.stdout)
    assert tomllib.loads(result.stdout)["tls"]["mode"] == "allow"
    running = Server(["--config", translated], ("127.0.0.1", port)).wait_until_listening()
    secret = f"nbds://localhost:{port}/secret?tls-certificates={tmp_path}"
    assert images.command("nbdinfo", "--size", secret).strip() == str(images.MIB)
    assert images.command("nbdinfo", "--size", running.uri("open")).strip() == str(images.MIB)
    plain = subprocess.run(
        ["nbdinfo", "--size", running.uri("secret")], capture_output=True, check=False, timeout=60
    )
    assert plain.returncode != 0
    running.stop()


def test_one_file_in_several_exports_is_not_locked(imported):
    result = imported(
        "[generic]\n[a]\nexportname = /x\n[b]\nexportname = /x\nreadonly = true\n"
        "[c]\nexportname = /y\n"
    )
    locks = {name: entry.get("lock", True) for name, entry in exports_of(result).items()}
    assert locks == {"a": False, "b": False, "c": True}
    assert "cannot be locked" in result.stderr


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["[generic]"]),
        ("[disk]\nexportname = /a\n", ["[generic]"]),
        ("[generic]\n", ["no exports"]),
        ("[generic]\noldstyle = true\n[a]\nexportname = /a\n", [":2", "oldstyle"]),
        ("[generic]\nforce_tls = true\n[a]\nexportname = /a\n", [":2", "keyfile"]),
        ("[generic]\nport = nbd\n[a]\nexportname = /a\n", ["nbd"]),
        ("[generic]\nincludedir = /does/not/exist\n[a]\nexportname = /a\n", [":2", "/does/not"]),
        ("[generic]\n[a]\nreadonly = true\n", [":2", "exportname"]),
        ("[generic]\n[a]\nexportname = /a\nreadonly = yes\n", [":4", "true or false"]),
        ("[generic]\n[a]\nexportname = /a\nfilesize = 1M\n", [":4", "whole number"]),
        ("[generic]\n[a]\nexportname = /a\nfilesize = -1\n", [":4", "bytes"]),
    ],
)
def test_what_nbd_server_would_not_serve_is_refused(imported, text, words):
    result = imported(text, expect=1)
    for word in words:
        assert word in result.stderr, result.stderr


def test_the_default_is_the_file_of_nbd_server():
    assert "/etc/nbd-server/config" in server.run("import-config", "--help").stdout
