"""nbd-client with certificates: the kernel's driver on an export that demands TLS. It is nbd-client
that encrypts, in a process of its own between the kernel's socket and the server.
"""

import pytest

from rig import guest, network
from support import certificates, images

FILES = ("ca-cert.pem", "client-cert.pem", "client-key.pem", "other-cert.pem", "other-key.pem")
ATTACH = f"nbd-client -N disk.img {network.HOST_ADDRESS} /dev/nbd0"


@pytest.fixture(scope="module", name="pki")
def folder_with_certificates(tmp_path_factory):
    """As test/support/certificates.py makes them; "other" is signed by nobody the server knows."""
    folder = tmp_path_factory.mktemp("pki")
    certificates.make_authority(folder)
    certificates.make_server_certificate(folder, "server", f"ip_address = {network.HOST_ADDRESS}")
    certificates.make_client_certificate(folder)
    certificates.make_authority(folder, "stranger")
    certificates.make_client_certificate(folder, "other", authority="stranger")
    return folder


def options(name):
    """Of nbd-client, the certificates being in the folder that it is started in."""
    return f"-certfile {name}-cert.pem -keyfile {name}-key.pem -cacertfile ca-cert.pem"


def test_a_device_over_tls_with_certificates_holds_a_file_system(net, serve, pki, tmp_path):
    image = images.make_sparse_image(tmp_path / "disk.img", 64 * images.MIB)
    (tmp_path / "loopnbd.toml").write_text(f"""
        [tls]
        mode = "require"
        certificate = "{pki}/server-cert.pem"
        key = "{pki}/server-key.pem"
        client_ca = "{pki}/ca-cert.pem"

        [[export]]
        path = "{image}"
        """)
    server = serve("--config", tmp_path / "loopnbd.toml")
    with guest.Guest(net=net, files=[pki / name for name in FILES]) as machine:
        machine.run("modprobe nbd && cp /host/files/*.pem .")
        for without in (ATTACH, f"{ATTACH} {options('other')}"):
            machine.run(f"timeout 60 {without}; ! nbd-client -c /dev/nbd0")
        assert "attached to" not in server.log()
        machine.run(f"""{ATTACH} {options("client")}
            mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 /mnt
            cp -a /etc /usr/lib/python3.11 /mnt/""")
        assert '(CN="node-1"): attached to "disk.img"' in server.log()
        assert "TLSv1.2" in server.log()
        machine.run(
            "fio --name=v --filename=/mnt/verified --rw=randwrite --bsrange=4k-64k --size=4M"
            " --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1"
            " --end_fsync=1",
            timeout=240,
        )
        machine.run("""sync && echo 3 >/proc/sys/vm/drop_caches
            diff -r --no-dereference /etc /mnt/etc && cp -a /usr/lib/python3.11 /host/out/
            umount /mnt && e2fsck -fn /dev/nbd0 && nbd-client -d /dev/nbd0""")
        expected = images.hashes_of_folder(machine.host / "out" / "python3.11")
    server.stop()
    images.command("e2fsck", "-fn", image)
    with images.mounted("ext4", image, tmp_path / "mnt", "loop,ro") as root:
        assert images.hashes_of_folder(root / "python3.11") == expected
