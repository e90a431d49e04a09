"""A running server whose configuration is broken in a thousand ways, under I/O."""

import contextlib
import json
import random
import threading

from support import images
from support.configuration import Configuration, export
from support.control import Control
from support.server import WAIT_SECONDS

MIB = images.MIB
BREAKS = 1000


@contextlib.contextmanager
def verified_writes(server, export_name):
    """A client writes and reads back for as long as it is in here; its connection must last."""
    stop, rounds, failures = threading.Event(), [], []

    def work():
        try:
            with server.client(export_name) as client:
                while not stop.is_set():
                    data = images.random_bytes(512, seed=len(rounds))
                    client.write(512 * (len(rounds) % 1000), data)
                    assert client.read(512 * (len(rounds) % 1000), 512) == data
                    rounds.append(len(data))
        except Exception as failure:  # for the thread that waits
            failures.append(failure)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join(WAIT_SECONDS)
    assert not failures, failures
    assert rounds


def rich_configuration(tmp_path):
    """Its head, and its exports: as many keys as are of use together."""
    keys = tmp_path / "keys.psk"
    keys.write_text("alice:00112233445566778899aabbccddeeff\n")
    disks = [images.make_image(tmp_path / f"{name}.img", MIB, seed=ord(name)) for name in "ab"]
    head = (
        "# A comment, with \u00fcmlauts.\n"
        f'workers = 2\nmemory = "64M"\nslow_request_ms = 500\nlog_level = "info"\n'
        f'[control]\nsocket = "{tmp_path}/ctl.sock"\n'
        f'[tls]\nmode = "allow"\npsk_file = "{keys}"'
    )
    described = export("a", disks[0], description='the "first"\n', writers=3)
    limited = "[export.limits]\nread_bytes = '1G'\nwrite_iops = 1_000_000\nburst_seconds = 0.5\n"
    golden = export("b", disks[1], read_only=True, offset=4096, size="64K", allow=["uid:0", "::/0"])
    return head, (described + limited, golden)


def broken(text):
    """The text cut at steps of bytes, and with bytes that are others."""
    cuts = [text[: len(text) * step // (BREAKS // 2)] for step in range(BREAKS // 2)]
    chance = random.Random(4711)
    letters = b'[]{}"\'=.,#\\\n \0\xff\xc3a0-_:'
    mutants = []
    for _ in range(BREAKS // 2):
        mutant = bytearray(text)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(len(mutant))
            mutant[at : at + chance.randrange(3)] = bytes(
                chance.choices(letters, k=chance.randrange(3))
            )
        mutants.append(bytes(mutant))
    return cuts + mutants


def test_a_thousand_broken_configurations_change_nothing(serve, tmp_path):
    head, exports = rich_configuration(tmp_path)
    configuration = Configuration(tmp_path / "loopnbd.toml", *exports, head=head)
    server = serve("--config", configuration.path)
    control = Control(tmp_path / "ctl.sock")
    good = configuration.path.read_bytes()
    unchanged = ("name", "path", "size_bytes", "mode", "read_only", "limits", "description")

    def look():
        entries = control.json("status")["exports"]
        locks = [images.is_locked(tmp_path / f"{name}.img") for name in "ab"]
        return [[entry[key] for key in unchanged] for entry in entries], locks

    with control.connect() as connection, verified_writes(server, "a"):
        stream = connection.makefile("rw", encoding="utf-8")

        def reload():
            stream.write('{"command": "reload"}\n')
            stream.flush()
            return json.loads(stream.readline())

        assert reload()["ok"]
        before, files = look(), server.file_count()
        refused = 0
        for count, text in enumerate(broken(good)):
            configuration.path.write_bytes(text)
            reply = reload()
            if reply["ok"]:
                configuration.path.write_bytes(good)
                assert reload()["ok"], text
            else:
                refused += 1
                assert reply["error"], text
            if count % 100 == 99:
                assert look() == before, text
        assert refused > BREAKS / 2
    # Files of former exports are closed a moment after their last client has gone.
    server.wait_until(lambda: server.file_count() <= files, "files to be closed")
    server.stop()
