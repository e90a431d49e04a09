#!/usr/bin/env python3
"""Passes on what ctest prints, and names the tests that passed only at their second try.

    ctest --repeat until-pass:2 ... 2>&1 | test/flaky.py

ctest says "100% tests passed" of them, too. The names come before its summary, which stays the
end of the output.
"""

import re
import sys

# The first try of a test has a count before it ("2/6 Test #2: name ...***Failed"), later ones have
# none. The output of a test may look alike: only a pair with the same number and name counts.
RESULT = re.compile(
    r"\s*(?P<count>\d+/\d+ )?\s*Test +#(?P<number>\d+): (?P<name>.*?) \.+"
    r"(?:\*\*\*(?P<failure>\w[\w ]*?)|   (?P<passed>Passed)) +[\d.]+ sec"
)
SUMMARY = re.compile(r"\d+% tests passed, \d+ tests? failed out of \d+")


def report(flaky):
    if flaky:
        return f"flaky: {len(flaky)}: " + "; ".join(flaky) + "\n"
    return ""


def main():
    failed = set()
    flaky = []
    for line in sys.stdin.buffer:
        text = line.decode(errors="replace")
        result = RESULT.match(text)
        if result:
            test = (result["number"], result["name"])
            if result["count"] and result["failure"] not in (None, "Skipped"):
                failed.add(test)
            elif not result["count"] and result["passed"] and test in failed:
                failed.remove(test)
                flaky.append(result["name"])
        elif SUMMARY.match(text):
            sys.stdout.buffer.write(report(flaky).encode())
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
