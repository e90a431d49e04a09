"""The log: one line an event, as text or JSON, with what it is about; slow requests; no flood."""

import json
import re
import select

import pytest

from support import images
from support.nbd_client import CMD_READ, Client
from support.server import run


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_of_a_json_log_is_an_object_with_what_it_is_about(serve, image):
    server = serve("--log-format", "json", "--slow-request-ms", "0", f"disk={image}")
    with server.client() as client:
        client.read(0, 512)
    lines = json_lines(server.stop())
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("info", "warning") and line["message"]
    (attached,) = [line for line in lines if "attached" in line["message"]]
    assert attached["export"] == "disk" and attached["client"].startswith("process ")
    assert any("detached" in line["message"] and line["export"] == "disk" for line in lines)


def slow_server(serve, tmp_path, *arguments):
    """A request takes as long as its client likes: it receives nothing of the reply."""
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    return serve("--slow-request-ms", "100", *arguments, f"disk={big}")


def be_slow(server, seconds=0.3):
    """One READ whose reply does not fit the socket is received only after a while."""
    with server.client() as client:
        client.request(CMD_READ, 4 << 20, 4 << 20)
        assert not server.has_ended(within_seconds=seconds)
        client.chunk()
        client.read(0, 512)


def test_a_slow_request_is_logged_with_where_its_time_went(serve, tmp_path):
    server = slow_server(serve, tmp_path)
    be_slow(server)
    text = server.stop()
    (line,) = [line for line in text.splitlines() if ": slow: " in line]
    found = re.search(
        r'slow: READ of 4194304 bytes at 4194304 of "disk" took ([\d.]+) ms: '
        r"queue ([\d.]+), device ([\d.]+), send ([\d.]+)",
        line,
    )
    total, queue, device, send = map(float, found.groups())
    assert total >= 100 and abs(total - queue - device - send) < 0.5
    assert queue + send > device  # the client was slow, not the disk


def test_a_slow_request_in_json_has_its_fields(serve, tmp_path):
    server = slow_server(serve, tmp_path, "--log-format", "json")
    be_slow(server)
    (line,) = [line for line in json_lines(server.stop()) if ": slow: " in line["message"]]
    assert line["level"] == "warning" and line["export"] == "disk" and line["client"]
    assert (line["command"], line["offset"], line["length"]) == ("READ", 4 << 20, 4 << 20)
    assert line["queue_us"] + line["device_us"] + line["send_us"] >= 100_000


def test_a_threshold_of_zero_logs_none(serve, tmp_path):
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    server = serve("--slow-request-ms", "0", big)
    be_slow(server, seconds=1.2)
    assert ": slow: " not in server.stop()


def test_a_client_cannot_fill_the_log(serve, image):
    server = serve(image)

    def be_refused():
        with Client(server.connect()) as client:
            client.greet()
            client.send(b"nonsense" * 3)
            assert client.is_closed()

    for _ in range(1000):
        be_refused()
    assert not server.has_ended(within_seconds=1.1)  # when the next one is let through
    be_refused()
    with server.client() as client:  # strangers do not silence what is said of clients
        client.read(0, 512)
    text = server.stop()
    assert 'attached to "disk.img"' in text
    lines = [line for line in text.splitlines() if "handshake ended" in line]
    assert 0 < len(lines) < 900
    assert any("more like it were not logged" in line for line in lines)


def test_a_name_with_control_characters_stays_in_its_line(serve, image):
    name = "a\nerror: b\x1b[31m\x9b1mé"
    server = serve(f"{name}={image}")
    with server.client(name) as client:
        client.read(0, 512)
    text = server.stop()
    assert "\x1b" not in text and "\x9b" not in text
    assert not re.search("^error: b", text, re.MULTILINE)
    assert 'attached to "a?error: b?[31m??1mé"' in text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_is_longer_than_a_pipe_takes_at_once(serve, image, log_format):
    """A longer one would make its writer wait for whoever reads the log."""
    for name in "n" * 4096, '"' * 4096, "é" * 2048:
        server = serve("--log-format", log_format, f"{name}={image}")
        with server.client(name) as client:
            client.read(0, 512)
        text = server.stop()
        lines = text.splitlines(keepends=True)
        assert max(len(line.encode()) for line in lines) <= select.PIPE_BUF
        attached = [line for line in lines if "attached to" in line]
        assert len(attached) == 1 and "\ufffd" not in text
        if log_format == "json":
            assert json.loads(attached[0])["export"].removesuffix("...") in name


def test_the_configuration_says_how_to_log(serve, image, tmp_path):
    config = tmp_path / "loopnbd.toml"
    config.write_text(
        f'log_format = "json"\nslow_request_ms = 50\n[[export]]\npath = "{image}"\n'
    )
    assert json_lines(serve("--config", config).stop())


def test_a_log_that_cannot_be_is_refused_with_its_place(image, tmp_path):
    config = tmp_path / "loopnbd.toml"
    for text, key in (
        ('log_format = "xml"', "log_format"),
        ("slow_request_ms = -1", "slow_request_ms"),
        ("slow_request_ms = 3600001", "slow_request_ms"),
        ('[http]\nlistem = "127.0.0.1:1"', "http.listem"),
    ):
        config.write_text(f'{text}\n[[export]]\npath = "{image}"\n')
        result = run("check-config", config)
        assert result.returncode == 1 and key in result.stderr, result.stderr
