#!/usr/bin/env python3
"""The tests of flaky.py: a tree of made-up tests, run by ctest as test/run runs it."""

import pathlib
import subprocess
import tempfile
import unittest

FLAKY = pathlib.Path(__file__).resolve().parent / "flaky.py"

STEADY = 'add_test("steady: it passes" true)\n'
SKIPPED = """
add_test("skipped" sh -c "exit 77")
set_tests_properties("skipped" PROPERTIES SKIP_RETURN_CODE 77)
"""
BROKEN = 'add_test("broken" false)\n'


def flaky(name):
    """A test that fails at its first try only, and prints the like of a result meanwhile."""
    words = "1/1 Test #1: steady: it passes ...***Failed 0.01 sec"
    command = f"test -e '{name}' || {{ touch '{name}'; echo '{words}'; exit 1; }}"
    return f'add_test("{name}" sh -c "{command}")\n'


class FlakyTest(unittest.TestCase):
    def run_tree(self, *tests):
        """The exit status, and the lines that come out of the pipe."""
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "CTestTestfile.cmake").write_text("".join(tests))
            command = f"ctest -j 2 --output-on-failure --repeat until-pass:2 2>&1 | {FLAKY}"
            output = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            self.assertEqual(output.stderr, "")
            return output.returncode, output.stdout.splitlines()

    def test_what_passes_at_its_second_try_is_named_before_the_summary(self):
        status, lines = self.run_tree(STEADY, flaky("flaky, a comma"), SKIPPED, flaky("b: flaky"))
        self.assertEqual(status, 0)
        number = lines.index("100% tests passed, 0 tests failed out of 4")
        self.assertRegex(
            lines[number - 1], r"^flaky: 2: (flaky, a comma; b: flaky|b: flaky; flaky, a comma)$"
        )

    def test_what_passes_at_once_is_not_named(self):
        status, lines = self.run_tree(STEADY, SKIPPED)
        self.assertEqual(status, 0)
        self.assertNotIn("flaky", "\n".join(lines))
        self.assertIn("100% tests passed, 0 tests failed out of 2", lines)

    def test_what_fails_twice_is_no_flaky_test_and_fails_the_run(self):
        status, lines = self.run_tree(STEADY, BROKEN, flaky("again"))
        self.assertNotEqual(status, 0)
        number = lines.index("67% tests passed, 1 tests failed out of 3")
        self.assertEqual(lines[number - 1], "flaky: 1: again")
        self.assertRegex("\n".join(lines[number:]), r"- broken \(Failed\)")


if __name__ == "__main__":
    unittest.main()
