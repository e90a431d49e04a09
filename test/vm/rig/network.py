"""A network namespace with a TAP device: a guest on one side, servers in the namespace on the
other. It needs no name and no cleaning up: it is gone with the last process in it.
"""

import concurrent.futures
import ctypes
import socket
import subprocess

CLONE_NEWNET = 0x40000000  # linux/sched.h
CONNECT_SECONDS = 30

HOST_ADDRESS = "192.0.2.1"
GUEST_ADDRESS = "192.0.2.2"
DEVICE = "tap0"


class Network:
    def __init__(self):
        script = f"""set -e
            ip link set lo up
            ip tuntap add {DEVICE} mode tap
            ip address add {HOST_ADDRESS}/24 dev {DEVICE}
            ip link set {DEVICE} up
            echo ready
            exec cat"""  # until its standard input ends, with us at the latest
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "bash", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self._keeper.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("no network for guests: is this root, and is there /dev/net/tun?")

    @property
    def pid(self):
        """A process in the namespace: /proc/PID/net shows its sockets."""
        return self._keeper.pid

    def command(self, *arguments):
        """The command line that runs the arguments in the namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *map(str, arguments)]

    def run(self, *arguments):
        subprocess.run(self.command(*arguments), check=True, timeout=30)

    def connect(self, address):
        """A socket in the namespace, connected to `address`, for a client in this process. The
        namespace is entered by a thread that ends: the others stay where they are.
        """

        def inside():
            with open(f"/proc/{self.pid}/ns/net", "rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            return socket.create_connection(address, CONNECT_SECONDS)

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(inside).result()

    def cut(self):
        """Nothing gets through any more, without a word to either side. The device stays up: the
        guest would take its going down for a broken network card.
        """
        self.run("ip", "address", "del", f"{HOST_ADDRESS}/24", "dev", DEVICE)

    def mend(self):
        self.run("ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", DEVICE)

    def close(self):
        self._keeper.stdin.close()
        self._keeper.wait(10)
        self._keeper.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
