"""The container image and the sidecar pod, run by podman."""

import os
import pathlib
import re
import shutil
import signal
import socket
import tarfile
import threading
import time
import urllib.request

import kustomize
import pytest
import yaml
from conftest import PACKAGING
from podman import Podman

from support import images, nbd_client, server

# The user that the image runs as.
USER = 65532


@pytest.fixture(scope="module")
def podman(tmp_path_factory, as_root):
    running = Podman(tmp_path_factory.mktemp("podman"))
    yield running
    running.remove_all()


@pytest.fixture(scope="module")
def image(podman, deb):
    images.command(
        PACKAGING / "container" / "build-image",
        deb,
        timeout=240,
        env={**podman.environment, "PODMAN": " ".join(podman.command)},
    )
    return "localhost/loopnbd:latest"


@pytest.fixture(scope="module")
def client_image(podman, tmp_path_factory):
    """Python and libnbd, and the program of the pod's other container."""
    folder = tmp_path_factory.mktemp("client")
    sources = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
    images.command(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=extract",
        "--include=python3-libnbd,python3-minimal,coreutils",
        "bookworm",
        folder / "client.tar",
        *([sources] if sources.exists() else []),
        timeout=240,
    )
    podman.run(
        "import", "--change", "ENV PATH=/usr/bin:/bin", folder / "client.tar", "localhost/app:test"
    )
    return "localhost/app:test"


@pytest.fixture
def shared(tmp_path):
    """A folder for the container's user: disk.img in it, and the socket."""
    folder = tmp_path / "shared"
    folder.mkdir()
    disk = images.make_image(folder / "disk.img", 64 * images.MIB)
    for path in (folder, disk):
        os.chown(path, USER, USER)
    return folder


def wait_for(condition, what, told=lambda: ""):
    deadline = time.monotonic() + 2 * server.WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} in time\n{told()}"
        threading.Event().wait(0.05)
    return found


def resident(pid):
    """Bytes of memory; fails when the process is gone."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE).group(1)) << 10


@pytest.fixture
def container(podman, image, shared):
    """container(podman flag...): serves shared/disk.img on shared/nbd.sock; its name."""
    started = []

    def start(*flags):
        started.append(f"loopnbd-{len(started)}")
        podman.run(
            *("run", "--detach", "--name", started[-1], "--network", "none", "--read-only"),
            *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
            *("--volume", f"{shared}:/data", *flags, image),
            *("serve", "--listen", "unix:/data/nbd.sock", "/data/disk.img"),
        )
        wait_for((shared / "nbd.sock").exists, "socket")
        return started[-1]

    yield start
    for name in started:
        podman.run("rm", "--force", "--time", "10", name)


def test_the_image_has_the_program_and_its_libraries_only(podman, image, tmp_path):
    podman.run("create", "--name", "contents", image)
    podman.run("export", "--output", tmp_path / "contents.tar", "contents")
    podman.run("rm", "contents")
    with tarfile.open(tmp_path / "contents.tar") as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
    programs = [
        member.name
        for member in members
        if member.mode & 0o111 and ".so" not in member.name and member.size > 0
    ]
    assert programs == ["usr/bin/loopnbd"]
    assert not [member.name for member in members if member.mode & 0o6000], "setuid or setgid"
    assert sum(member.size for member in members) < 40 * images.MIB
    copyrights = [member.name for member in members if member.name.endswith("/copyright")]
    assert len(copyrights) > 5, "the licences of the libraries want to be there"
    assert "no such file" in podman.fails("run", "--rm", "--entrypoint", "/bin/sh", image)


def test_it_does_not_run_as_root(podman, image):
    assert podman.run("image", "inspect", "--format", "{{.Config.User}}", image).strip() == (
        f"{USER}:{USER}"
    )
    assert podman.run("run", "--rm", "--network", "none", image, "--version").startswith("loopnbd")


def test_it_serves_from_a_read_only_root_without_capabilities(podman, container, shared):
    name = container()
    uri = f"nbd+unix:///?socket={shared}/nbd.sock"
    disk = shared / "disk.img"
    images.command("nbdcopy", uri, shared / "copy.img")
    assert images.sha256(shared / "copy.img") == images.sha256(disk)
    new = images.make_image(shared / "new.img", 64 * images.MIB, seed=2)
    images.command("nbdcopy", "--flush", new, uri)
    podman.run("stop", "--time", "30", name)
    state = podman.inspect(name)["State"]
    assert state["ExitCode"] == 0, podman.logs(name)
    assert "Terminated" in podman.logs(name) and "ended" in podman.logs(name)
    assert images.sha256(disk) == images.sha256(new)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--memory", "64m", "--cpus", "1"], ["1 worker,", "24 MiB for data in flight"]),
        (["--memory", "32m"], ["8 MiB for data in flight"]),
        (["--memory", "144m"], ["64 MiB for data in flight"]),
        (["--cpus", "0.5"], ["1 worker,", "64 MiB for data in flight"]),
    ],
)
def test_it_sizes_itself_by_the_limits_of_the_container(podman, container, flags, said):
    name = container(*flags)
    log = wait_for(lambda: "listening" in podman.logs(name) and podman.logs(name), "start")
    for words in said:
        assert words in log, log
    assert "its control group allows" in log, log


def test_clients_that_never_read_do_not_make_a_small_container_run_out_of_memory(
    podman, container, shared
):
    """They ask for much more than the memory limit; what is answered waits in the server, up to
    its budget of 16 MiB.
    """
    name = container("--memory", "48m", "--memory-swap", "48m", "--cpus", "1")
    pid = podman.inspect(name)["State"]["Pid"]
    before = resident(pid)
    clients = []
    for _ in range(24):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(server.WAIT_SECONDS)
        connection.connect(str(shared / "nbd.sock"))
        client = nbd_client.Client(connection).start()
        clients.append(client)
        for number in range(64):
            client.request(nbd_client.CMD_READ, number * images.MIB, images.MIB)
    wait_for(lambda: resident(pid) > before + 12 * images.MIB, "server that holds many replies")
    for client in clients:
        client.close()
    uri = f"nbd+unix:///?socket={shared}/nbd.sock"
    images.command("nbdcopy", "--connections=4", uri, shared / "copy.img")
    assert images.sha256(shared / "copy.img") == images.sha256(shared / "disk.img")
    state = podman.inspect(name)["State"]
    assert state["Pid"] == pid and not state["OOMKilled"]


def sidecar_pod(disk_volume, arguments, http_address):
    """The rendered sidecar as podman 4.3 can run it: it knows no native sidecars, so that the
    server is one of the main containers; no probes of the kubelet; the host's network, of which
    only loopback is used.
    """
    manifests = kustomize.render(PACKAGING / "kubernetes" / "sidecar" / "base")
    kustomize.set_image(manifests, "app", "localhost/app:test")
    kustomize.set_image(manifests, "localhost/loopnbd:0.1.0", "localhost/loopnbd:latest")
    (pod,) = [manifest for manifest in manifests if manifest["kind"] == "Pod"]
    spec = pod["spec"]
    spec["hostNetwork"] = True
    sidecar = spec["initContainers"].pop()
    assert sidecar["name"] == "loopnbd" and sidecar.pop("restartPolicy") == "Always"
    for key in ("startupProbe", "livenessProbe", "ports"):
        del sidecar[key]
    spec["restartPolicy"] = "OnFailure"  # podman would start the init container again, too
    (app,) = spec["containers"]
    app["command"] = arguments
    spec["containers"].insert(0, sidecar)
    (claim,) = [manifest for manifest in manifests if manifest["kind"] == "PersistentVolumeClaim"]
    manifests.remove(claim)
    (config,) = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    assert "0.0.0.0:9809" in config["data"]["loopnbd.toml"]
    config["data"]["loopnbd.toml"] = config["data"]["loopnbd.toml"].replace(
        "0.0.0.0:9809", http_address
    )
    (volume,) = [v for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert volume["persistentVolumeClaim"]["claimName"] == disk_volume
    return manifests


def mount_point(podman, volume):
    found = podman.run("volume", "inspect", "--format", "{{.Mountpoint}}", volume)
    return pathlib.Path(found.strip())


def test_the_pod_reads_and_writes_through_its_sidecar_and_survives_its_death(
    podman, image, client_image, tmp_path
):
    podman.run("volume", "create", "disk")
    data = mount_point(podman, "disk")
    os.chown(data, USER, USER)
    program = (pathlib.Path(__file__).parent / "pod_client.py").read_text()
    uri = "nbd+unix:///disk?socket=/run/loopnbd/nbd.sock"
    http_address = f"127.0.0.1:{server.free_port()}"
    manifests = sidecar_pod("disk", ["/usr/bin/python3.11", "-c", program, uri], http_address)
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump_all(manifests))
    podman.run("play", "kube", tmp_path / "pod.yaml")
    # The kubelet would let fsGroup into an emptyDir. Podman makes it root's or not, whichever
    # container mounts it first; until it is the user's, the server fails and is started again.
    os.chown(mount_point(podman, "socket"), USER, USER)

    def log():
        return podman.logs("app-app")

    def logs():
        return log() + podman.logs("app-loopnbd")

    wait_for(lambda: "writing" in log(), "client that writes", logs)
    with urllib.request.urlopen(f"http://{http_address}/readyz", timeout=30) as answer:
        assert answer.status == 200, "the startup probe would fail"
    first = podman.inspect("app-loopnbd")["State"]["Pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "reconnected" in log(), "connection to the new sidecar", logs)
    wait_for(lambda: "verified" in log(), "verification", logs)
    assert podman.inspect("app-loopnbd")["State"]["Pid"] != first
    assert podman.inspect("app-app")["RestartCount"] == 0
    assert (data / "disk.img").stat().st_size == 1 << 30
    podman.run("pod", "stop", "--time", "30", "app")
    assert "ended" in podman.logs("app-loopnbd")
    podman.run("pod", "rm", "--force", "app")
    shutil.rmtree(data)
