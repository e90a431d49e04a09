"""/healthz, /readyz, /metrics and /status over HTTP, and clients that mean no good."""

import http.client
import json
import signal
import socket
import subprocess

import pytest

from support import images
from support.nbd_client import CMD_READ, EINVAL
from support.server import is_listening, run
from support.watching import Watched, hanging, watch, workers_of


def test_nothing_is_served_unless_asked_for(serve, image):
    server = serve(image)
    log = server.log()
    assert "/metrics" not in log


def test_a_server_that_is_well_says_so(serve, image):
    watched = watch(serve, image)
    assert watched.get("/healthz")[::2] == (200, "ok\n")
    assert watched.get("/readyz")[::2] == (200, "ready\n")


def test_an_address_in_the_configuration_is_listened_on(serve, image, tmp_path):
    path = str(tmp_path / "http.sock")
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[http]\nlisten = "unix:{path}"\n[[export]]\npath = "{image}"\n')
    watched = Watched(serve("--config", config), path)
    assert watched.get("/healthz")[0] == 200
    assert watched.status()["exports"][0]["name"] == "disk.img"


def test_an_address_that_is_none_is_refused_with_its_place(image, tmp_path):
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[http]\nlisten = "nowhere"\n[[export]]\npath = "{image}"\n')
    result = run("check-config", config)
    assert result.returncode == 1
    assert "loopnbd.toml:2: http.listen" in result.stderr


def test_metrics_are_what_promtool_asks_for(serve, image):
    watched = watch(serve, image)
    with watched.server.client() as client:
        client.read(0, 4096)
        client.write(0, b"x" * 512)
        client.flush()
        _, headers, text = watched.get("/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.workers
def test_counters_are_exact_after_known_traffic(serve, image):
    watched = watch(serve, f"disk={image}", "--workers", "2")
    clients = [watched.server.client(structured=number % 2 == 0) for number in range(4)]
    for client in clients:
        for index in range(10):
            client.write(index * 1000, b"w" * 700)
            client.read(index * 512, 3000)
        client.read(0, 3 << 20)  # in pieces
        client.flush()
        assert client.error(CMD_READ, 100 << 20, 512) == EINVAL
    metrics = watched.metrics()
    reading = ",command=read,export=disk"
    writing = ",command=write,export=disk"
    assert metrics["loopnbd_requests_total" + reading] == 4 * 12
    assert metrics["loopnbd_bytes_total" + reading] == 4 * (10 * 3000 + (3 << 20))
    assert metrics["loopnbd_requests_total" + writing] == 40
    assert metrics["loopnbd_bytes_total" + writing] == 40 * 700
    assert metrics["loopnbd_requests_total,command=flush,export=disk"] == 4
    assert metrics["loopnbd_errors_total,command=read,error=EINVAL,export=disk"] == 4
    assert metrics["loopnbd_errors_total,command=read,error=EIO,export=disk"] == 0
    for stage in "queue", "device", "send":
        assert metrics[f"loopnbd_{stage}_seconds_count{reading}"] == 4 * 12
        assert metrics[f"loopnbd_{stage}_seconds_bucket{reading},le=+Inf"] == 4 * 12
    assert metrics["loopnbd_requests_in_flight" + reading] == 0
    assert metrics["loopnbd_export_connections,export=disk"] == 4
    assert sum(v for k, v in metrics.items() if k.startswith("loopnbd_connections,")) == 4
    for client in clients:
        client.close()
    watched.server.wait_until(
        lambda: watched.metrics()["loopnbd_export_connections,export=disk"] == 0, "their end"
    )
    metrics = watched.metrics()
    assert metrics["loopnbd_export_connections_total,export=disk"] == 4
    assert metrics["loopnbd_requests_total" + reading] == 4 * 12


def test_labels_hold_whatever_an_export_may_be_called(serve, image):
    name = 'a"b\\c\nd{é}'
    watched = watch(serve, f"{name}={image}")
    _, _, text = watched.get("/metrics")
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert watched.status()["exports"][0]["name"] == name


def test_the_status_is_a_page_for_browsers_and_json_for_programs(serve, image):
    watched = watch(serve, image)
    _, headers, text = watched.get("/status", Accept="text/html,application/json;q=0.9")
    assert headers["Content-Type"].startswith("text/html") and "<!DOCTYPE html>" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for arguments in ("/status.json", {}), ("/status", {"Accept": "application/json"}):
        _, headers, text = watched.get(arguments[0], **arguments[1])
        assert headers["Content-Type"] == "application/json"
        assert json.loads(text)["exports"][0]["size_bytes"] == 4 << 20


def test_the_status_shows_clients_and_what_they_do(serve, image):
    watched = watch(serve, "--read-only", image)
    with watched.server.client() as client:
        client.read(0, 4096)
        status = watched.status()
        (line,) = status["connections"]
        assert line["export"] == "disk.img" and line["read_only"] and line["bytes_read"] == 4096
        assert line["requests"] == 1 and line["in_flight"] == 0 and line["latency_sum_us"] > 0
    (entry,) = status["exports"]
    assert entry["read_only"] and entry["connections"] == 1 and not entry["sync_failed"]
    (reads,) = entry["commands"]
    assert reads["command"] == "READ" and reads["requests"] == 1


def test_head_says_what_get_would_without_the_body(serve, image):
    watched = watch(serve, image)
    for path in "/healthz", "/status", "/nowhere":
        status, headers, text = watched.get(path, method="HEAD")
        assert text == "" and int(headers["Content-Length"]) > 0
        assert status == watched.get(path)[0]


def test_other_methods_and_other_paths_are_refused(serve, image):
    watched = watch(serve, image)
    for method in "POST", "PUT", "DELETE", "OPTIONS":
        status, headers, _ = watched.get("/metrics", method=method)
        assert status == 405 and headers["Allow"] == "GET, HEAD"
    for path in "/", "/metrics/", "/../etc/passwd", "/status.jsonx":
        assert watched.get(path)[0] == 404
    assert watched.get("/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize(
    "host, status",
    [
        ("evil.example", 421),
        ("evil.example:9809", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost", 200),
        ("localhost:1", 200),
        ("127.0.0.1:9809", 200),
        ("[::1]:9809", 200),
        ("192.0.2.1", 200),
    ],
)
def test_on_a_loopback_address_names_of_others_are_refused(serve, image, host, status):
    """A page whose name leads here (DNS rebinding) could read what a browser gets."""
    watched = watch(serve, image)
    for path in "/status", "/status.json", "/metrics":
        assert watched.get(path, Host=host)[0] == status
    # A Unix socket cannot be led to.
    by_socket = Watched(serve("--http", f"unix:{image}.sock", image, "--no-lock"), f"{image}.sock")
    assert by_socket.get("/status.json", Host=host)[0] == 200


def test_one_connection_serves_several_requests(serve, image):
    watched = watch(serve, image)
    connection = watched.connection()
    for _ in range(3):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
    connection.close()


def test_a_worker_that_hangs_is_reported_and_so_is_its_recovery(serve, image):
    watched = watch(serve, "--workers", "2", image)
    workers = workers_of(watched.server)
    assert len(workers) == 2
    with hanging(workers[1]):
        status, _, text = watched.get("/healthz")
        assert status == 503 and "does not respond" in text
        metrics = watched.metrics()
        assert sum(v for k, v in metrics.items() if k.startswith("loopnbd_worker_resp")) == 1
    assert watched.get("/healthz")[0] == 200


def test_a_draining_server_is_healthy_and_not_ready(serve, tmp_path):
    """A client that does not read its replies keeps the server draining."""
    big = images.make_image(tmp_path / "big.img", 8 << 20)
    watched = watch(serve, big)
    server = watched.server
    with server.client() as client:
        client.leave_replies_unread()
        server.signal(signal.SIGTERM)
        server.wait_until(lambda: not is_listening(server.address), "the end of listening")
        assert watched.get("/healthz")[0] == 200
        status, _, text = watched.get("/readyz")
        assert status == 503 and "draining" in text
        assert watched.metrics()["loopnbd_listening"] == 0
        client.close()
        server.wait(0)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"z" * 1000000,
        b"NBDMAGIC" * 100 + b"\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        bytes(range(256)) * 50,
    ],
    ids=["header", "target", "body", "protocol", "version", "noise"],
)
def test_what_is_too_large_or_no_request_is_refused(serve, image, request_bytes):
    watched = watch(serve, image)
    with watched.socket() as client:
        answer = b""
        try:
            client.sendall(request_bytes)
            while received := client.recv(65536):
                answer += received
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was closed while we were still sending
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert watched.get("/healthz")[0] == 200


def test_a_client_that_takes_too_long_is_closed(serve, image):
    watched = watch(serve, image)
    with watched.socket() as silent, watched.socket() as slow:
        slow.sendall(b"GET /healthz HTT")
        assert watched.get("/healthz")[0] == 200
        assert silent.recv(1) == b"" and slow.recv(1) == b""


def test_a_client_that_does_not_read_is_closed_and_no_one_waits_for_it(serve, image):
    watched = watch(serve, image)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(watched.address)
        client.settimeout(0.2)
        try:
            while True:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)
        except (TimeoutError, ConnectionError):
            pass
        assert watched.get("/healthz")[0] == 200
        before = watched.server.file_count()
        watched.server.wait_until(lambda: watched.server.file_count() < before, "its end")


def test_of_many_clients_the_oldest_goes_and_others_are_served(serve, image):
    watched = watch(serve, image)
    before = watched.server.file_count()
    silent = [watched.socket() for _ in range(300)]
    try:
        assert watched.get("/healthz")[0] == 200
        assert watched.server.file_count() <= before + 20
        assert silent[0].recv(1) == b""
    finally:
        for client in silent:
            client.close()
    assert watched.get("/readyz")[0] == 200


def test_requests_that_arrive_together_are_answered_in_turn(serve, image):
    watched = watch(serve, image)
    with watched.socket() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n" * 2 + b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = b""
        while received := client.recv(65536):
            answer += received
    bodies = [part.split(b"\r\n\r\n")[1] for part in answer.split(b"HTTP/1.")[1:]]
    assert bodies == [b"ok\n", b"ok\n", b"ready\n"]


def test_an_http_client_is_no_nbd_client(serve, image):
    """Its bytes are not read as a handshake, nor does it count as a connection."""
    watched = watch(serve, "--max-connections", "1", image)
    with watched.socket(), watched.server.client() as client:
        assert client.read(0, 512)
        assert watched.get("/healthz")[0] == 200
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        Watched(watched.server, watched.server.address).get("/healthz")
