"""The program gives up before it serves: privileges, system calls, files."""

import os
import pathlib
import pwd
import signal
import stat
import subprocess

import pytest

from support import images, server, tls


def of_every_thread(running, field):
    """A field of /proc/PID/task/*/status, without its name."""
    found = set()
    for task in pathlib.Path(f"/proc/{running.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith(field + ":"):
                found.add(line.split(":", 1)[1].strip())
    return found


@pytest.mark.workers
def test_every_thread_is_in_the_sandbox_and_the_log_says_so(serve, image):
    running = serve(f"disk={image}")
    with running.client("disk") as client:
        client.write(0, b"s" * 100_000)
        client.flush()
        assert client.read(0, 100_000) == b"s" * 100_000
    assert of_every_thread(running, "NoNewPrivs") == {"1"}
    assert of_every_thread(running, "Seccomp") == {"2"}
    running.wait_for_log(r"sandbox: running as user \d+; .*; \d+ system calls forbidden")


def test_the_sandbox_can_be_left_out(serve, image):
    running = serve(f"disk={image}", "--no-sandbox")
    running.wait_for_log("sandbox: off")
    with running.client("disk") as client:
        assert client.read(0, 512)
    assert of_every_thread(running, "Seccomp") == {"0"}


def test_root_becomes_another_user_when_everything_is_open(serve, image, root_only, pki):
    """Files and keys that only root may open are served by a process that may no longer."""
    os.chmod(image, stat.S_IRUSR | stat.S_IWUSR)
    arguments = ("--tls-psk-file", pki / "keys.psk", "--user", "nobody")
    running = serve(f"disk={image}", *arguments)
    # It listens before it gives anything up, and accepts nobody before it has.
    running.wait_for_log("sandbox: running as nobody")
    nobody = pwd.getpwnam("nobody")
    assert of_every_thread(running, "Uid") == {"\t".join([str(nobody.pw_uid)] * 4)}
    assert of_every_thread(running, "Gid") == {"\t".join([str(nobody.pw_gid)] * 4)}
    assert of_every_thread(running, "CapEff") == {"0" * 16}
    assert "0" not in of_every_thread(running, "Groups").pop().split()
    uri = tls.uri(running, "disk", user="alice", tls_psk_file=pki / "keys.psk")
    source = images.make_image(image.parent / "new.img", image.stat().st_size, seed=8)
    images.command("nbdcopy", "--flush", source, uri)
    assert images.sha256(image) == images.sha256(source)


def test_other_processes_of_its_user_cannot_look_into_it(serve, tmp_path, image, root_only):
    """It holds what only root may open. A reload still reads what it needs."""
    os.chmod(tmp_path, 0o755)
    config = tmp_path / "loopnbd.toml"
    export = f'[[export]]\npath = "{image}"\nname = "%s"\n'
    config.write_text(export % "before")
    running = serve("--config", config, "--user", "nobody")
    running.wait_for_log("sandbox: running as nobody")
    nobody = pwd.getpwnam("nobody")
    for look in (["ls", "fd/"], ["head", "-c1", "environ"], ["head", "-c0", "mem"]):
        result = subprocess.run(
            look,
            cwd=f"/proc/{running.pid}",
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=server.WAIT_SECONDS,
            check=False,
        )
        assert "Permission denied" in result.stderr, (look, result)
    os.chmod(image, 0o666)
    config.write_text(export % "after")
    running.signal(signal.SIGHUP)
    running.wait_for_log("the configuration was read again")
    with running.client("after") as client:
        assert client.read(0, 512) == image.read_bytes()[:512]


def test_a_user_that_cannot_be_is_refused(image, root_only):
    for arguments in (["--user", "no-such-user"], ["--user", "no-such-user", "--no-sandbox"]):
        result = server.run("serve", "--listen", "127.0.0.1:0", *arguments, image)
        assert result.returncode == 1 and "no-such-user" in result.stderr


def test_a_user_cannot_become_another(image, root_only):
    os.chmod(image, 0o666)
    result = server.run(
        "serve", "--listen", "127.0.0.1:0", "--user", "nobody", image, user=4242, group=4242
    )
    assert result.returncode == 1, result.stderr


def test_an_ordinary_user_serves_from_a_read_only_root(tmp_path, image, root_only):
    """As in a container: nothing can be written but the image and the folder of the socket."""
    os.chmod(tmp_path, 0o755)
    os.chmod(image, 0o666)
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    sockets.chmod(0o777)
    path = str(sockets / "nbd.sock")
    script = (
        f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro / && ! touch /x 2>&- && "
        'exec setpriv --reuid 4242 --regid 4242 --clear-groups "$@"'
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", server.binary(), "serve"]
        + ["--listen", f"unix:{path}", f"disk={image}"],
        env=server.environment(),
        preexec_fn=server.die_with_parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if "listening on" in line:
                break
        uri = f"nbd+unix:///disk?socket={path}"
        source = images.make_image(tmp_path / "new.img", image.stat().st_size, seed=8)
        images.command("nbdcopy", "--flush", source, uri)
        assert images.sha256(image) == images.sha256(source)
    finally:
        process.terminate()
        said = process.communicate(timeout=server.WAIT_SECONDS)[1]
    assert process.returncode == 0, said
    assert not os.path.exists(path)
