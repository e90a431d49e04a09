"""Runs in the other container of the pod: writes through the sidecar's socket for as long as it
takes until the connection was lost once and is back, and checks that every acknowledged write is
there. Says how far it is on standard output.
"""

import signal
import sys
import threading

import nbd

URI = sys.argv[1]
BLOCK = 4096
BLOCKS_AFTER = 500  # written after the connection was lost
RETRY_SECONDS = 0.05
RETRIES_MAX = 1200


def content(number):
    return (b"block %d " % number * BLOCK)[:BLOCK]


def connect():
    for _ in range(RETRIES_MAX):
        handle = nbd.NBD()
        try:
            handle.connect_uri(URI)
            return handle
        except nbd.Error as error:
            last = error
            threading.Event().wait(RETRY_SECONDS)
    raise SystemExit(f"cannot connect to {URI}: {last}")


def main():
    # The first process of a container has no signal handlers but its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    handle = connect()
    block_count = handle.get_size() // BLOCK
    acknowledged = {}  # block -> number of the last write
    reconnections, number, left = 0, 0, BLOCKS_AFTER
    while left > 0:
        place = number * 7919 % block_count
        try:
            handle.pwrite(content(number), place * BLOCK, nbd.CMD_FLAG_FUA)
        except nbd.Error:
            handle = connect()
            reconnections += 1
            print(f"reconnected after {number} writes", flush=True)
            continue  # the same write again
        acknowledged[place] = number
        number += 1
        if number == BLOCKS_AFTER:
            print("writing", flush=True)
        if reconnections > 0:
            left -= 1
    for place, last in acknowledged.items():
        if bytes(handle.pread(BLOCK, place * BLOCK)) != content(last):
            raise SystemExit(f"block {place} is not what write {last} has written")
    print(f"verified {len(acknowledged)} blocks after {number} writes", flush=True)
    signal.pause()  # the pod goes on until it is stopped


main()
