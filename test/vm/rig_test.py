"""The guests themselves: what test/vm/run promises."""

import os
import subprocess

import pytest

from rig import guest, job, network, root

RUN = root.VM / "run"


def run(folder, script, *options):
    """test/vm/run with a script of this text."""
    path = folder / "script"
    path.write_text(f"#!/bin/bash\n{script}\n")
    return subprocess.run(
        [RUN, path, *options], capture_output=True, text=True, timeout=250, check=False
    )


@pytest.mark.parametrize("options", [(), ("--qemu", "--smp", "2")], ids=["uml", "qemu"])
def test_output_status_and_files_of_a_script_come_back(tmp_path, options):
    (tmp_path / "brought").write_text("from outside")
    ended = run(
        tmp_path,
        """loopnbd --version && id -u && lsblk --noheadings --output SIZE $DISK
        cat /host/files/brought; echo
        nproc
        echo made here >/host/out/made
        exit 7""",
        *("--file", tmp_path / "brought", "--out", tmp_path / "out", "--disk", "64", *options),
    )
    assert ended.returncode == 7, ended.stderr
    version, user, size, brought, processors = ended.stdout.splitlines()
    assert version.startswith("loopnbd ")
    assert (user, size.strip(), brought) == ("0", "64M", "from outside")
    assert processors == ("2" if options else "1")
    assert (tmp_path / "out" / "made").read_text() == "made here\n"


def test_a_script_that_hangs_is_ended_and_what_it_said_comes_back(tmp_path):
    ended = run(tmp_path, "echo before; exec tail -f /dev/null", "--timeout", "10")
    assert ended.returncode == 124
    assert "before" in ended.stdout
    assert "10 s at most" in ended.stdout


def test_a_guest_whose_kernel_panics_ends_without_a_status(tmp_path):
    ended = run(tmp_path, "echo c >/proc/sysrq-trigger", "--timeout", "60")
    assert ended.returncode == 124
    assert "sysrq triggered crash" in ended.stderr


def test_a_guest_and_a_server_outside_share_a_network(tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(1 << 20))
    ended = run(
        tmp_path,
        f"""modprobe nbd && nbd-client -N disk.img {network.HOST_ADDRESS} /dev/nbd0 &&
        cmp /dev/nbd0 /host/files/disk.img && nbd-client -d /dev/nbd0""",
        *("--serve", f"{job.binary()} serve --listen 0.0.0.0:10809 {image}"),
        *("--file", image),
    )
    assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"


@pytest.mark.parametrize("kernel", ["uml", "qemu"])
def test_a_guest_without_power_is_gone_at_once(kernel):
    with guest.Guest(kernel=kernel) as machine:
        assert machine.run("echo out; echo err >&2; exit 3", check=False) == guest.Result(
            3, "out\n", "err\n"
        )
        machine.power_off()
        left = subprocess.run(
            ["ps", "-e", "-o", "args"], capture_output=True, text=True, check=True
        ).stdout
        assert str(machine.folder) not in left


def test_a_command_that_hangs_fails_the_test_in_time():
    with guest.Guest() as machine:
        with pytest.raises(guest.GuestFailed, match="timed out"):
            machine.run("exec tail -f /dev/null", timeout=2)
