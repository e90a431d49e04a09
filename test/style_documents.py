"""The rules for documents: short enough, no link that leads nowhere, no table that has drifted.

Part of style_test.py, which calls check() with the sources of the repository.
"""

import posixpath
import re

README_LINES_MAX = 130
COLUMNS_MAX = 130  # outside of tables and links
ROOMS_PAGE = "server/README.md"
GENERATED = ("test/bench/report.md",)


def is_document(path):
    return path.endswith(".md") and path not in GENERATED


def shape(source):
    if source.path == "README.md" and len(source.lines) - 1 > README_LINES_MAX:
        yield (
            README_LINES_MAX + 1,
            f"{len(source.lines) - 1} lines; at most {README_LINES_MAX}: the rest has a document",
        )
    for number, line in enumerate(source.lines, 1):
        if len(line) > COLUMNS_MAX and not line.startswith("|"):
            yield number, f"{len(line)} columns; at most {COLUMNS_MAX} outside of tables"


def links(source, exists):
    """`exists` says whether the repository has a file."""
    folder = posixpath.dirname(source.path)
    for number, line in enumerate(source.lines, 1):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            path = posixpath.normpath(posixpath.join(folder, target))
            if not exists(path):
                yield number, f"a link to {target}, which is not there"


def rooms_table(source, rooms):
    """The table of rooms says what `rooms` says of each room of server/."""
    expected = {
        room.removeprefix("server/"): {other.removeprefix("server/") for other in others}
        for room, others in rooms.items()
        if room.startswith("server/")
    }
    found = {}
    for number, line in enumerate(source.lines, 1):
        row = re.fullmatch(r"\| `([\w/]+)` \| [^|]+ \|([^|]*)\|", line)
        if row and row[1] in expected:
            found[row[1]] = (number, set(re.findall(r"`([\w/]+)`", row[2])))
    for room, others in expected.items():
        number, said = found.get(room, (1, None))
        if said is None:
            yield number, f"the table of rooms lacks {room}"
        elif said != others:
            wanted = " ".join(f"`{other}`" for other in sorted(others))
            yield number, f"{room} may include {wanted}, by style_test.py"


def check(sources, rooms, exists):
    for source in sources:
        if not is_document(source.path):
            continue
        for rule in (
            shape(source),
            links(source, exists),
            rooms_table(source, rooms) if source.path == ROOMS_PAGE else (),
        ):
            for number, text in rule:
                yield "documents", source.path, number, text


def failures_of_self_test(source_of):
    """Texts about rules that do not find what they are for. `source_of`: (path, text) -> Source."""
    row = "| `a` | what it is for | {} |\n"
    rooms = {"server/a": ("server/b",), "server/b": ()}
    others = "| `b` | another | |\n"
    cases = (
        ("README.md", "line\n" * README_LINES_MAX, 0),
        ("README.md", "line\n" * (README_LINES_MAX + 1), 1),
        ("engine/README.md", "line\n" * (README_LINES_MAX + 1), 0),
        ("engine/README.md", "w" * (COLUMNS_MAX + 1) + "\n", 1),
        ("engine/README.md", "|" + "w" * COLUMNS_MAX + "\n", 0),
        ("engine/README.md", "[there](there.md) [up](../up.md#place) [out](https://a.b/c)\n", 0),
        ("engine/README.md", "[gone](gone.md)\n", 1),
        ("test/bench/report.md", "[gone](gone.md)\n", 0),
        (ROOMS_PAGE, row.format("`b`") + others, 0),
        (ROOMS_PAGE, row.format("`b` `c`") + others, 1),
        (ROOMS_PAGE, others, 1),
    )
    there = {"engine/there.md", "up.md"}
    for path, text, count in cases:
        found = [*check([source_of(path, text)], rooms, there.__contains__)]
        if len(found) != count:
            yield f"documents: finds {found} in {path}: {text[:100]!r}"
