"""The log: one line an event, as text or JSON, with what it is about; slow requests; no flood."""

import contextlib
import json
import pathlib
import re
import select

import pytest

from support import images
from support.control import Control
from support.nbd_client import CMD_FLUSH, CMD_READ, CMD_WRITE, Client, request_message
from support.server import run
from support.watching import hanging, watch, workers_of


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


def slow_arguments(tmp_path, threshold_ms=100):
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    return "--slow-request-ms", str(threshold_ms), f"disk={big}"


def slow_server(serve, tmp_path, *arguments):
    """A request takes as long as its client likes: it receives nothing of the reply."""
    return serve(*arguments, *slow_arguments(tmp_path))


def pool_of(server):
    """The threads that are neither workers nor the one that accepts."""
    threads = {int(thread.name) for thread in pathlib.Path(f"/proc/{server.pid}/task").iterdir()}
    return threads - {server.pid, *workers_of(server)}


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


UNDER_WAY = r'slow, and not done: {} of "disk" is under way for [\d.]+ ms, now in {}'


def stop_reading(client):
    """A READ whose reply does not fit the socket is under way until this client reads again."""
    client.request(CMD_READ, 4 << 20, 4 << 20)
    return "READ of 4194304 bytes at 4194304", "send", lambda: client.chunk()


def stop_sending(client):
    message = request_message(CMD_WRITE, 4096, 65536, payload=b"w" * 65536)
    client.send(message[:-100])

    def finish():
        client.send(message[-100:])
        client.chunk()

    return "WRITE of 65536 bytes at 4096", "queue", finish


@pytest.mark.parametrize("be_hung_up", [stop_reading, stop_sending])
def test_a_request_that_does_not_end_is_logged_once_while_it_is_under_way(
    serve, tmp_path, be_hung_up
):
    watched = watch(serve, *slow_arguments(tmp_path))
    server = watched.server
    with server.client() as client:
        client.read(0, 512)
        what, where, finish = be_hung_up(client)
        server.wait_for_log(UNDER_WAY.format(what, where))
        assert watched.metrics()["loopnbd_requests_slow,export=disk"] == 1
        assert watched.status()["exports"][0]["requests_slow"] == 1
        assert not server.has_ended(within_seconds=0.3)  # three thresholds: it is not said again
        finish()
        server.wait_until(
            lambda: watched.metrics()["loopnbd_requests_slow,export=disk"] == 0, "its end"
        )
    text = server.stop()
    assert text.count("slow, and not done") == 1
    assert text.count(": slow: ") == 1  # the whole of it, when it is over


def test_a_disk_that_hangs_is_told_from_a_slow_client(serve, tmp_path):
    """The threads that sync a file do not run: as with a disk that does not answer."""
    control = Control(tmp_path / "control.sock")
    server = serve(
        *("--direct-io", "off", "--control", control.path), *slow_arguments(tmp_path)
    )
    with server.client() as client, contextlib.ExitStack() as hung:
        client.write(0, b"x" * 512)
        for thread in pool_of(server):
            hung.enter_context(hanging(thread))
        client.request(CMD_FLUSH)
        server.wait_for_log(UNDER_WAY.format("FLUSH of 0 bytes at 0", "device"))
        assert "1 request UNDER WAY FOR TOO LONG" in control.text("status")
        hung.close()
        assert client.chunk().error == 0
    server.stop()


def test_a_paused_export_says_so_of_its_requests(serve, tmp_path):
    control = Control(tmp_path / "control.sock")
    arguments = ("--control", control.path, "--log-format", "json")
    server = serve(*arguments, *slow_arguments(tmp_path, 2000))
    with server.client() as client:
        client.read(0, 512)
        # Begun before the pause and complete in it, long before it is slow.
        message = request_message(CMD_WRITE, 512, 512, payload=b"w" * 512)
        client.send(message[:-1])
        control.text("pause", "disk")
        client.send(message[-1:])
        server.wait_for_log("slow, and not done")
        control.text("resume", "disk")
        assert client.chunk().error == 0
    (line,) = [line for line in json_lines(server.stop()) if "not done" in line["message"]]
    assert line["stage"] == "pause" and line["command"] == "WRITE" and line["offset"] == 512


def test_many_requests_that_hang_do_not_fill_the_log(serve, tmp_path):
    server = serve(*slow_arguments(tmp_path))
    clients = [server.client() for _ in range(40)]
    for client in clients:
        stop_reading(client)
    server.wait_for_log("slow, and not done")
    assert not server.has_ended(within_seconds=0.5)
    for client in clients:
        client.close()
    assert 0 < server.stop().count("slow, and not done") <= 15


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
    assert 'attached to "a?error: b?[31m?1mé"' in text


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
