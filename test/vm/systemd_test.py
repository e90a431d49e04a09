"""packaging/systemd/loopnbd-attach@.service, under systemd itself."""

from rig import guest, root
from support import images

UNIT = root.ROOT / "packaging" / "systemd" / "loopnbd-attach@.service"
NAME = "loopnbd-attach@nbd0.service"
PID = f"systemctl show --property MainPID --value {NAME}"


def test_a_mount_follows_the_unit_survives_its_process_and_is_gone_before_it_at_shutdown(tmp_path):
    disk = images.make_sparse_image(tmp_path / "disk", 256 * images.MIB)
    with guest.Guest(systemd=True, disk=disk, files=[UNIT]) as machine:
        # As the package installs it, and as the unit's head says.
        machine.run(f"""set -e
            cp /host/bin/loopnbd /usr/bin/ && cp /host/lib/* /usr/local/lib/ && ldconfig
            cp /host/files/{UNIT.name} /etc/systemd/system/
            mkdir -p /etc/loopnbd/attach
            echo SOURCE=/srv/disk.img >/etc/loopnbd/attach/nbd0.conf
            echo OPTIONS=--timeout 3 >>/etc/loopnbd/attach/nbd0.conf
            mkfs.ext4 -q $DISK && mount $DISK /srv
            truncate -s 64M /srv/disk.img && mkfs.ext4 -q /srv/disk.img && umount /srv
            echo "$DISK /srv ext4 defaults 0 2" >>/etc/fstab
            echo "/dev/nbd0 /mnt ext4 _netdev,x-systemd.after={NAME} 0 2" >>/etc/fstab
            systemctl daemon-reload && systemctl enable {NAME}
            systemctl start local-fs.target remote-fs.target
            findmnt /srv && findmnt /mnt && systemctl is-active {NAME}""")
        # A process that dies is started again, and takes the device over.
        pid = machine.stdout(PID)
        machine.run(f"""set -e
            cp -a /usr/lib/python3.11/json /mnt/
            kill -9 {pid}
            until now=$({PID}); ((now != 0 && now != {pid})) && systemctl is-active {NAME}; do
              sleep 0.1
            done
            cp -a /usr/lib/python3.11/json /host/out/ && cp -a /etc /mnt/""")
        expected = images.hashes_of_folder(machine.host / "out" / "json")
        machine.tell("systemctl poweroff")
        assert machine.process.wait(200) == 0, machine.console()
    images.command("e2fsck", "-fn", disk)
    with images.mounted("ext4", disk, tmp_path / "outer", "loop") as outer:
        image = outer / "disk.img"
        assert "needs_recovery" not in images.command("dumpe2fs", "-h", image)
        images.command("e2fsck", "-fn", image)
        with images.mounted("ext4", image, tmp_path / "inner", "loop,ro") as inner:
            assert images.hashes_of_folder(inner / "json") == expected
            assert (inner / "etc" / "fstab").exists()
