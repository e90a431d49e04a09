"""The power of the server's machine is cut: whatever a client was told is durable is there.

Server, image and client are in one guest. The image's file system is on log-writes, a device-mapper
target that records every write at the time it became durable; a mark goes into the same record
when a file has been synced through the server. So the record, cut off at any FLUSH, FUA or mark, is
a disk as a power cut would have left it then: both journals are replayed, and every file whose mark
is in the record must be there.
"""

import shutil

from rig import guest, write_log
from support import images

DISK_SIZE = 64 * images.MIB  # the log follows it
IMAGE_SIZE = 24 * images.MIB
FILES = 12

PREPARE = f"""set -e
modprobe nbd && modprobe dm-log-writes
sectors=$(blockdev --getsz $DISK)
dmsetup create disk --table "0 {DISK_SIZE // 512} linear $DISK 0"
dmsetup create log --table "0 $((sectors - {DISK_SIZE // 512})) linear $DISK {DISK_SIZE // 512}"
dmsetup mknodes  # there is no udev to do it
dmsetup create recorded --table "0 {DISK_SIZE // 512} log-writes /dev/mapper/disk /dev/mapper/log"
dmsetup mknodes
mkdir /srv/images && mount /dev/mapper/recorded /srv/images
loopnbd serve --listen unix:/run/nbd.sock /srv/images/disk.img >/tmp/server.log 2>&1 &
until [[ -S /run/nbd.sock ]]; do :; done
nbd-client -unix /run/nbd.sock -N disk.img /dev/nbd0
mount -o $OPTIONS /dev/nbd0 /mnt"""

WRITE = f"""for ((number = 1; number <= {FILES}; ++number)); do
  yes "file $number" | head -c 20000 >/mnt/$number
  sync /mnt/$number && dmsetup message recorded 0 mark "$number"
done"""


def content(number):
    line = f"file {number}\n".encode()
    return (line * (20000 // len(line) + 1))[:20000]


def make_disk(folder):
    """A disk of 512 MiB that begins with a file system, in which is disk.img, another one."""
    (folder / "files").mkdir()
    image = images.make_sparse_image(folder / "files" / "disk.img", IMAGE_SIZE)
    images.command("mke2fs", "-q", "-t", "ext4", image)
    disk = images.make_sparse_image(folder / "disk", DISK_SIZE)
    images.command("mke2fs", "-q", "-t", "ext4", "-d", folder / "files", disk)
    shutil.copy(disk, folder / "state")
    with open(disk, "r+b") as file:
        file.truncate(8 * DISK_SIZE)
    return disk


def record(folder, options):
    disk = make_disk(folder)
    with guest.Guest(disk=disk) as machine:
        machine.run(f"OPTIONS={options}\n{PREPARE}")
        machine.run(WRITE, timeout=120)
        machine.power_off()
    return disk


def found_after_a_cut(state, folder):
    """The files in the image's file system, when the machine starts again with this disk. Without
    mounting: a loop device that another program has just looked at stays for a moment, and shows
    the state before this one.
    """
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "files").mkdir(parents=True)
    shutil.copy(state, scratch / "disk")  # replaying the journal changes it
    images.command("e2fsck", "-y", "-E", "journal_only", scratch / "disk")
    images.command("debugfs", "-R", f"dump disk.img {scratch}/image", scratch / "disk")
    images.command("e2fsck", "-y", "-E", "journal_only", scratch / "image")
    images.command("debugfs", "-R", f"rdump / {scratch}/files", scratch / "image")
    found = [path for path in (scratch / "files").iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in found}


def lost(folder, disk):
    """(the point in the record, a file that had been synced before and is not there), and how
    many points were looked at.
    """
    synced, missing, points = [], [], 0
    for number, entry in enumerate(write_log.replay(disk, DISK_SIZE, folder / "state")):
        if entry.mark.isdigit():
            synced.append(entry.mark)
        if entry.flags & (write_log.FLUSH | write_log.FUA | write_log.MARK) and synced:
            points += 1
            found = found_after_a_cut(folder / "state", folder)
            missing += [(number, name) for name in synced if found.get(name) != content(int(name))]
    assert synced == [str(number) for number in range(1, FILES + 1)]
    return missing, points


def test_after_a_cut_at_any_flush_every_synced_file_is_there(tmp_path):
    missing, points = lost(tmp_path, record(tmp_path, "barrier"))
    assert not missing
    assert points > 2 * FILES


def test_the_record_shows_what_is_lost_without_flushes(tmp_path):
    missing, _ = lost(tmp_path, record(tmp_path, "nobarrier"))
    assert missing  # otherwise the test above could not fail
