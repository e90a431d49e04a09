"""Tables in the documents of packaging/doc, for tests that hold them against the program."""

import re

from support.server import ROOT

FOLDER = ROOT / "packaging" / "doc"


def sections(name, level):
    """{heading: text} of the headings with so many #."""
    parts = re.split(rf"^{'#' * level} (.*)\n", (FOLDER / name).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def rows(text):
    """The cells of the rows that begin with a name: [[name, cell...]]."""
    lines = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", text, re.MULTILINE)
    return [[name, *re.split(r"\s*\|\s*", rest.strip())] for name, rest in lines]


def commands():
    """{command: {argument: its type}} of the control protocol."""
    text = sections("control-protocol.md", 2)["Commands"]
    parts = re.split(r"^### (.*)\n", text, flags=re.MULTILINE)
    return {
        command: {name: kind for name, kind, _ in rows(body)}
        for command, body in zip(parts[1::2], parts[2::2])
    }
