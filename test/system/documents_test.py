"""The documents of the control protocol and of the status say what the program does."""

import json
import re

import pytest

from support import documents
from support.control import Control
from support.nbd_client import CMD_READ
from support.watching import watch

COMMANDS = documents.commands()

# How a value of the wrong type is refused.
EXPECTED = {
    "text": "a text",
    "number": "a whole number",
    "real number": "a number",
    "boolean": "true or false",
    "size": "a size",
    "word": "one of",
    "number or text": "a partition's number",
    "array of texts": "a list of",
    "object": "an object",
}


@pytest.fixture
def refusal(serve, image, tmp_path):
    """refusal(request): why the server refuses it."""
    control = Control(tmp_path / "control.sock")
    serve("--control", control.path, image)

    def ask(request):
        with control.connect() as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(connection.makefile("rb").readline())
        assert reply["ok"] is False, request
        return reply["error"]

    return ask


def names_after(text, refusal):
    found = re.search(rf"{text}(.*)", refusal)[1]
    return set() if found == "none" else set(found.split(", "))


def test_the_protocol_document_has_the_commands_and_arguments_of_the_server(refusal):
    assert names_after("there are ", refusal({"command": "?"})) == set(COMMANDS)
    for command, arguments in COMMANDS.items():
        refused = refusal({"command": command, "?": 1})
        assert names_after("there are ", refused) == set(arguments), command


def test_the_protocol_document_has_the_types_of_arguments(refusal):
    for command, arguments in COMMANDS.items():
        needed = {name for name, kind in arguments.items() if kind.endswith(", required")}
        for name in arguments:
            kind = arguments[name].removesuffix(", required")
            wrong = [] if kind == "object" else {}
            refused = refusal({"command": command, **dict.fromkeys(needed, "on"), name: wrong})
            expected = EXPECTED[kind]
            assert f'"{name}": expected {expected}' in refused, (command, name)
        for name in needed:
            others = dict.fromkeys(needed - {name}, "on")
            refused = refusal({"command": command, **others})
            assert f'"{name}" is missing' in refused, (command, name)


@pytest.fixture
def watched(serve, image):
    """A server that has answered a request, and one of its clients is still there."""
    watched = watch(serve, f"disk={image}")
    with watched.server.client() as client:
        client.read(0, 4096)
        client.error(CMD_READ, 100 << 20, 512)
        yield watched


def status_tables():
    tables = {
        title: documents.rows(text) for title, text in documents.sections("status.md", 2).items()
    }
    return {title: table for title, table in tables.items() if table and len(table[0]) == 4}


def test_the_status_document_has_every_member_of_the_status(watched):
    status = watched.status()
    (target,) = status["exports"]
    (command,) = target["commands"]
    (connection,) = status["connections"]
    found = {
        "The server": status,
        "Workers": status["workers"][0],
        "Exports": target,
        "Commands": command,
        "Connections": connection,
        "Times": command["device"],
        "Limits": target["limits"],
    }
    kinds = {"text": str, "boolean": bool, "array": list, "array of texts": list}
    tables = status_tables()
    assert tables.keys() - found.keys() == {"Errors"}
    for title, members in found.items():
        documented = {name: kind for name, kind, _, _ in tables[title]}
        assert documented.keys() == members.keys(), title
        for name, kind in documented.items():
            expected = dict if kind.startswith("object") else kinds.get(kind, (int, float))
            assert isinstance(members[name], expected), (title, name)
    assert target["client_limits"].keys() == target["limits"].keys()
    assert command["errors"].keys() <= {name for name, *_ in tables["Errors"]}


def test_the_status_document_has_every_metric_with_its_help(watched):
    _, _, text = watched.get("/metrics")
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE))
    types = dict(re.findall(r"^# TYPE (\w+) (.*)$", text, re.MULTILINE))
    infos = {"loopnbd_build_info", "loopnbd_export_info"}
    documented = {}
    labels = set()
    for table in status_tables().values():
        for _, kind, metric, meaning in table:
            label = re.fullmatch(r"label `(\w+)` of `(\w+)`", metric)
            if label:
                labels.add(label.groups())
            elif metric:
                name = metric.strip("`")
                documented[name] = meaning
                histogram = kind == "object, see Times"
                assert (types[name] == "histogram") == histogram, name
    assert documented == {name: help for name, help in helps.items() if name not in infos}
    found = {
        (label, family)
        for family in infos
        for line in re.findall(rf"^{family}{{(.*)}} 1$", text, re.MULTILINE)
        for label in re.findall(r'(\w+)="', line)
    }
    assert found - {("export", "loopnbd_export_info")} == labels


def test_the_status_document_has_every_error(watched):
    _, _, text = watched.get("/metrics")
    errors = set(re.findall(r'error="(\w+)"', text))
    assert errors == {name for name, *_ in status_tables()["Errors"]}
