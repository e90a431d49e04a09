"""A real Prometheus scrapes the server; each query of the Grafana dashboard finds what it asks for;
a real browser shows the page for people.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from support.nbd_client import CMD_READ
from support.server import ROOT, WAIT_SECONDS, die_with_parent, free_port
from support.watching import watch

DASHBOARD = ROOT / "packaging" / "grafana" / "loopnbd.json"
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: loopnbd
    static_configs: [{{targets: ["{host}:{port}"]}}]
"""


class Prometheus:
    """A Prometheus of our own, with its data in `folder`."""

    def __init__(self, folder, target):
        self.port = free_port()
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(host=target[0], port=target[1]))
        self.log = (folder / "prometheus.log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self.log,
            stderr=self.log,
            preexec_fn=die_with_parent,
        )

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_SECONDS)

    def query(self, expression):
        """[(labels, value)]."""
        encoded = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/query?{encoded}", timeout=WAIT_SECONDS
        ) as reply:
            result = json.load(reply)["data"]["result"]
        return [(entry["metric"], float(entry["value"][1])) for entry in result]

    def wait_for(self, expression, condition):
        deadline = time.monotonic() + 2 * WAIT_SECONDS
        found = None
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # it does not listen yet
                found = self.query(expression)
                if condition(found):
                    return found
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.2)
                break
        self.log.seek(0)
        raise AssertionError(f"{expression}: {found}\n{self.log.read()[-3000:]}")


@pytest.fixture
def prometheus(tmp_path):
    with contextlib.ExitStack() as started:

        def start(watched):
            server = Prometheus(tmp_path, watched.address)
            started.callback(server.stop)
            return server

        yield start


def expressions():
    """Every query of the dashboard, its variables replaced as Grafana would."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    assert len(found) > 20
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found.append(re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])[1])
    return [
        re.sub(r"\$(job|instance|export|command)", ".*", text).replace("$__rate_interval", "1m")
        for text in found
    ]


def names_in(expression):
    return set(re.findall(r"\b(?:loopnbd|process)_\w+", expression))


def test_every_metric_of_the_dashboard_is_one_of_the_server(serve, image):
    watched = watch(serve, f"disk={image}")
    with watched.server.client() as client:
        client.read(0, 512)
    there = {re.split(",", key)[0] for key in watched.metrics()}
    wanted = set().union(*map(names_in, expressions()))
    assert wanted and wanted <= there, wanted - there


def test_every_metric_of_the_server_is_on_the_dashboard(serve, image):
    """But for those that only debugging needs."""
    watched = watch(serve, f"disk={image}")
    with watched.server.client() as client:
        client.read(0, 512)
    there = {
        re.sub(r"_(bucket|sum|count)$", "", re.split(",", key)[0]) for key in watched.metrics()
    }
    wanted = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in set().union(*map(names_in, expressions()))
    }
    assert there - wanted == {
        "loopnbd_turns_total",
        "loopnbd_export_size_bytes",
        "loopnbd_export_tls_connections_total",
    }


def test_every_name_of_the_page_is_one_of_the_status(serve, image):
    watched = watch(serve, f"disk={image}")
    with watched.server.client() as client:
        client.read(0, 512)
        status = watched.status()
        page = watched.get("/status")[2]
    (target,) = status["exports"]
    (command,) = target["commands"]
    (connection,) = status["connections"]
    there = {*status, *target, *command, *command["device"], *connection, *status["workers"][0]}
    script = page.split("<script>")[1]
    used = set(re.findall(r"\b(?:status|entry|row|command|worker|last|e)\.(\w+)", script))
    used |= set(re.findall(r"\b(?:queue|device|send|before|status\.\w+)\.(\w+)", script))
    of_arrays = {"find", "flatMap", "filter", "map", "join", "length", "indexOf", "json"}
    assert used - of_arrays - there == set()
    assert len(used & there) > 25


def test_a_real_prometheus_scrapes_and_the_dashboard_has_answers(serve, image, prometheus):
    watched = watch(serve, f"disk={image}")
    server = prometheus(watched)
    server.wait_for("up", lambda found: [value for _, value in found] == [1])
    reading = 'loopnbd_requests_total{command="read"}'
    with watched.server.client() as client:
        for total in 51, 102:  # a rate needs two values
            for index in range(50):
                client.write(index * 512, b"p" * 512)
                client.read(index * 512, 4096)
            client.error(CMD_READ, 100 << 20, 512)  # so that there are errors, too
            server.wait_for(reading, lambda found, n=total: [value for _, value in found] == [n])
    for expression in expressions():
        server.wait_for(
            expression, lambda found: found and all(value == value for _, value in found)
        )
    ((labels, _),) = server.query("loopnbd_export_info")
    assert labels["export"] == "disk" and labels["path"] == str(image)
    alerts = server.query("loopnbd_sync_failed == 1 or loopnbd_worker_responding == 0")
    assert alerts == []


def browse(url, folder, *arguments):
    browser = ["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    result = subprocess.run(
        [*browser, f"--user-data-dir={folder}", "--virtual-time-budget=4000", *arguments, url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HOME": str(folder)},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def cells(page, table):
    """The body of a table as rows of texts."""
    body = re.search(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    cells_of = re.compile(r"<td[^>]*>(.*?)</td>", re.DOTALL)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in cells_of.findall(row)] for row in rows]


def test_a_browser_shows_exports_connections_and_latency(serve, image, tmp_path):
    name = "<b>disk"  # must arrive as text
    watched = watch(serve, f"{name}={image}", f"second={image}", "--no-lock", "--workers", "2")
    url = f"http://127.0.0.1:{watched.address[1]}/status"
    with watched.server.client(name) as client:
        for index in range(50):
            client.write(index * 4096, b"s" * 4096)
            client.read(index * 512, 8192)
        client.error(CMD_READ, 100 << 20, 512)
        page = browse(url, tmp_path / "browser", "--dump-dom")
        picture = pathlib.Path(os.environ.get("LOOPNBD_SCREENSHOT", tmp_path / "status.png"))
        browse(url, tmp_path / "browser", f"--screenshot={picture}", "--window-size=1300,900")
    assert '<span id="state" class="good">serving</span>' in page
    first, second = cells(page, "exports")
    assert first[0] == "&lt;b&gt;disk" and second[0] == "second"
    assert first[1] == str(image) and first[2] == "4.0 MiB" and first[6] == "1"
    assert first[3].startswith(("direct", "buffered")) and first[5] == "fine"
    commands = {row[1]: row for row in cells(page, "commands")}
    assert commands["READ"][2] == "51" and commands["WRITE"][2] == "50"
    assert re.fullmatch(r"[\d.]+ (µs|ms|s)", commands["READ"][6])
    assert "EINVAL 1" in commands["READ"][-1] and commands["WRITE"][-1] == "0"
    ((client_name, export_name, *_),) = cells(page, "connections")
    assert client_name.startswith("process ") and export_name == "&lt;b&gt;disk"
    assert len(cells(page, "workers")) == 2
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_a_browser_says_when_the_server_has_gone(serve, image, tmp_path):
    """The page is the server's own; what it asks for afterwards gets no answer."""
    watched = watch(serve, image)
    page = tmp_path / "page.html"
    page.write_text(watched.get("/status")[2])
    watched.server.stop()
    text = browse(f"file://{page}", tmp_path / "browser", "--dump-dom")
    assert "the server does not answer" in text
