"""Certificates and keys that are replaced, or vanish, while clients are served by them."""

import contextlib
import shutil
import subprocess
import threading

import pytest

from support import certificates, images, tls
from support.configuration import Configuration, export
from support.nbd_client import OPT_GO, REP_ERR_TLS_REQD, Client, Disconnected, go_payload
from support.server import WAIT_SECONDS

FILES = ("server-cert.pem", "server-key.pem", "keys.psk")


@pytest.fixture
def secrets(pki, tmp_path):
    """A folder with the server's own copies, which a test may change."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in ("ca-cert.pem", "ca-key.pem", *FILES):
        shutil.copy(pki / name, folder)
    return folder


@pytest.fixture
def start(serve, secrets, tmp_path):
    """(server, its configuration, the export in it) of a file."""

    def started(path):
        head = (
            f'workers = 2\n[tls]\ncertificate = "{secrets}/server-cert.pem"\n'
            f'key = "{secrets}/server-key.pem"\npsk_file = "{secrets}/keys.psk"'
        )
        exported = export("disk", path)
        configuration = Configuration(tmp_path / "loopnbd.toml", exported, head=head)
        return serve("--config", configuration.path, listen="tcp"), configuration, exported

    return started


def refused(*command):
    done = subprocess.run(
        [*map(str, command)], timeout=WAIT_SECONDS, capture_output=True, check=False
    )
    return done.returncode != 0


@contextlib.contextmanager
def verified_writes(server, pki):
    """A client behind TLS that writes and reads back for as long as it is in here; its connection
    must last.
    """
    stop, failures, rounds = threading.Event(), [], []

    def work():
        try:
            with tls.client(server, tls.context(pki), "disk") as client:
                while not stop.is_set():
                    data = bytes([len(rounds) % 251]) * 70000
                    client.write(1000, data)
                    assert client.read(1000, 70000) == data
                    rounds.append(True)
        except (AssertionError, OSError, Disconnected) as failure:
            failures.append(failure)

    def works_on():
        before = len(rounds)
        server.wait_until(lambda: failures or len(rounds) > before + 3, "writes")
        assert not failures, failures

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        works_on()
        yield works_on
        works_on()
    finally:
        stop.set()
        thread.join(WAIT_SECONDS)


@pytest.mark.workers
def test_files_that_vanish_in_mid_run_keep_nobody_out(start, image, pki, secrets, tmp_path):
    server, configuration, exported = start(image)
    by_certificate = tls.uri(server, "disk", tls_certificates=pki)
    by_key = tls.uri(server, "disk", user="alice", tls_psk_file=pki / "keys.psk")
    with verified_writes(server, pki) as works_on:
        for name in FILES:
            (secrets / name).rename(tmp_path / name)
        images.command("nbdinfo", by_certificate)
        images.command("nbdinfo", by_key)
        images.command("nbdcopy", "--connections=4", by_key, tmp_path / "copy.img")
        arguments, disk = tls.qemu_options(server, f"tls-creds-x509,dir={pki}", "disk")
        images.command("qemu-img", "info", *arguments, "--image-opts", disk)
        # Read again, they are missed; the server keeps what it has.
        outcome = configuration.reload(server, exported)
        assert "stays" in outcome and "server-cert.pem" in outcome, outcome
        assert "No such file" in outcome
        works_on()
        images.command("nbdinfo", by_certificate)
        images.command("nbdinfo", by_key)
        for name in FILES:
            (tmp_path / name).rename(secrets / name)
        assert "read again" in configuration.reload(server, exported)
        images.command("nbdinfo", by_certificate)
    server.stop()


@pytest.mark.workers
def test_a_new_certificate_is_for_those_who_come_after_it(start, image, pki, secrets):
    server, configuration, exported = start(image)
    with verified_writes(server, pki):
        certificates.make_authority(secrets, "other")
        certificates.make_server_certificate(secrets, authority="other")
        newer = secrets / "newer"
        newer.mkdir()
        shutil.copy(secrets / "other-cert.pem", newer / "ca-cert.pem")
        # Until it is told to, the server does not look.
        images.command("nbdinfo", tls.uri(server, "disk", tls_certificates=pki))
        assert "read again" in configuration.reload(server, exported)
        images.command("nbdinfo", tls.uri(server, "disk", tls_certificates=newer))
        assert refused("nbdinfo", tls.uri(server, "disk", tls_certificates=pki))
    server.stop()


def test_a_key_that_was_taken_away_lets_in_nobody_any_more(start, image, pki, secrets):
    server, configuration, exported = start(image)
    by_key = tls.uri(server, "disk", user="alice", tls_psk_file=pki / "keys.psk")
    images.command("nbdinfo", by_key)
    (secrets / "keys.psk").unlink()
    certificates.make_keys(secrets, ("backup",))
    assert "read again" in configuration.reload(server, exported)
    assert refused("nbdinfo", by_key)
    by_new_key = tls.uri(server, "disk", user="backup", tls_psk_file=secrets / "keys.psk")
    images.command("nbdinfo", by_new_key)
    # Half a certificate is none.
    text = (secrets / "server-cert.pem").read_text()
    (secrets / "server-cert.pem").write_text(text[: len(text) // 2])
    assert "stays" in configuration.reload(server, exported)
    images.command("nbdinfo", by_new_key)
    server.stop()


@pytest.mark.parametrize("required_by", ["the server", "the export"])
def test_a_client_that_came_before_tls_was_required_gets_nothing_in_plaintext(
    serve, image, pki, tmp_path, required_by
):
    exported = export("disk", image)
    tls_table = f'[tls]\nmode = "allow"\npsk_file = "{pki}/keys.psk"'
    configuration = Configuration(tmp_path / "loopnbd.toml", exported, head=tls_table)
    server = serve("--config", configuration.path)
    with Client(server.connect()) as client:
        client.greet()
        if required_by == "the server":
            configuration.head = tls_table.replace("allow", "require")
            changed = exported
        else:
            changed = export("disk", image, tls="require")
        new = export("new", image, lock=False)
        assert "read again" in configuration.reload(server, changed, new)
        for name in ("disk", "new") if required_by == "the server" else ("disk",):
            assert client.option_type(OPT_GO, go_payload(name)) == REP_ERR_TLS_REQD
    server.stop()
