"""Kernel TLS, where there is a kernel that has it: what is sent is encrypted by the kernel, and the
server says so.
"""

import json

from rig import guest
from support import certificates

SERVE = """
    loopnbd serve --listen 127.0.0.1:10809 --control /tmp/control.sock \\
      --tls-certificate server-cert.pem --tls-key server-key.pem --tls-client-ca ca-cert.pem \\
      /tmp/disk.img >/tmp/server.log 2>&1 &
    until loopnbd ctl --socket /tmp/control.sock status >/dev/null 2>&1; do
      kill -0 $! || { cat /tmp/server.log >&2; exit 1; }
    done"""
ATTACH = """
    nbd-client -N disk.img 127.0.0.1 /dev/nbd0 -certfile client-cert.pem -keyfile client-key.pem \\
      -cacertfile ca-cert.pem -tlshostname localhost"""


def test_a_kernel_that_can_encrypt_does_so_and_the_status_says_it(tmp_path):
    certificates.make_authority(tmp_path)
    certificates.make_server_certificate(tmp_path)
    certificates.make_client_certificate(tmp_path)
    with guest.Guest(files=list(tmp_path.glob("*.pem"))) as machine:
        machine.run(f"""modprobe nbd && modprobe tls && cp /host/files/*.pem .
            truncate -s 32M /tmp/disk.img {SERVE} {ATTACH}
            dd if=/dev/urandom of=/tmp/data bs=1M count=8 status=none
            dd if=/tmp/data of=/dev/nbd0 bs=1M oflag=direct status=none
            echo 3 >/proc/sys/vm/drop_caches
            cmp -n 8388608 /tmp/data /dev/nbd0""")
        told = json.loads(
            machine.stdout("loopnbd ctl --socket /tmp/control.sock --json connections")
        )
        (connection,) = told["connections"]
        assert "sending by kernel TLS" in connection["protection"]
        assert connection["bytes_read"] >= 8 << 20
        machine.run("grep -q 'sending by kernel TLS' /tmp/server.log")
        machine.run("""grep -q '^TlsTxSw  *[1-9]' /proc/net/tls_stat
            nbd-client -d /dev/nbd0 && loopnbd ctl --socket /tmp/control.sock drain
            cmp -n 8388608 /tmp/data /tmp/disk.img""")
