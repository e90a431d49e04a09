"""A configuration file that a test writes and changes."""

import json
import re
import signal


def export(name, path, **keys):
    """One [[export]] table; values as JSON writes them, which TOML takes."""
    lines = [f"name = {json.dumps(name)}", f"path = {json.dumps(str(path))}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(["[[export]]", *lines, ""])


class Configuration:
    """The file of one server. `head` is what stands before the exports."""

    def __init__(self, path, *exports, head=""):
        self.path = path
        self.head = head
        self._reloads = 0
        self.write(*exports)

    def write(self, *exports):
        self.path.write_text(self.head + "\n" + "\n".join(exports))

    def reload(self, server, *exports):
        """Writes, sends SIGHUP, and waits for the outcome: what the log says of it."""
        self.write(*exports)
        server.signal(signal.SIGHUP)
        return self.wait_for_outcome(server)

    def wait_for_outcome(self, server):
        self._reloads += 1
        outcome = r"(?:the configuration was read again|the configuration stays)[^\n]*\n"
        server.wait_for_log(rf"(?s)(?:{outcome}.*?){{{self._reloads}}}")
        return re.findall(outcome, server.log())[self._reloads - 1]
