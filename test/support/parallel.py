"""Several things at once, for tests with many clients."""

import threading

from support.server import WAIT_SECONDS


def run_all(functions):
    """Each in a thread of its own; the first failure is the test's."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as failure:  # noqa: B902 (it is raised below)
            failures.append(failure)

    threads = [
        threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT_SECONDS)
        assert not thread.is_alive(), "still busy"
    for failure in failures:
        raise failure
