#!/usr/bin/env python3
"""Checks the house rules that a reviewer would otherwise have to check.

    test/style_test.py             all sources of the repository; exit status 1 if a rule is broken
    test/style_test.py --self-test  that each rule finds what it is for (style_test_cases.py)

Each rule is a function from a Source to (line number, text) pairs. The ALLOWED table says
what may break a rule, and why; an entry that is no longer needed is an error as well.
"""

import pathlib
import re
import shutil
import subprocess
import sys

import style_comments
import style_documents
import style_mirror

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("proto", "engine", "server", "test", "packaging", ".ci")
LAYERS = ("proto", "engine", "server")
# The rooms (folders) of its own layer that each room may include. The libraries that CMake
# makes of the rooms are linked by the same table.
ENGINE = ("engine",)
BASE = ("server/base", "server/policy")
CONFIG = ("server/net", *BASE)
ROOMS = {
    "proto": (),
    "engine": ("engine/file", "engine/align"),  # open_device.cpp puts the parts together
    "engine/align": ENGINE,
    "engine/file": (*ENGINE, "engine/align"),
    "server/policy": (),
    "server/base": (),
    "server/net": BASE,
    "server/config": CONFIG,
    "server/process": ("server/base", "server/config"),
    "server/export": ("server/config", *BASE),
    "server/serving": ("server/export", "server/config", *CONFIG),
    "server/live": ("server/serving", "server/export", "server/config", "server/base"),
    "server/watch": ("server/serving", "server/net", *BASE),
    "server/attach": (
        "server/serving",
        "server/export",
        "server/process",
        "server/config",
        *CONFIG,
    ),
    "server/control": ("server/live", "server/watch", "server/serving", "server/config", *CONFIG),
    "server/control/client": ("server/control", "server/config", *BASE),
}
ROOMS["server"] = tuple(room for room in ROOMS if room.startswith("server/"))
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
COLUMNS_MAX = 100

# (rule, path): reason. Only with a reason that another reader would accept.
ALLOWED = {
    (
        "no_sleeps",
        "test/bench/session.cpp",
    ): "no test: a pause between attempts to connect to a server that has no way to say it listens",
}


class Source:
    """A file, its text, and its C++ code with comments and literals blanked out, lines kept."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.lines = text.split("\n")
        self.is_header = path.endswith(".h")
        self.is_cpp = self.is_header or path.endswith(".cpp")
        self.code = blank_cpp(text) if self.is_cpp else ""

    def line_at(self, position):
        return self.text.count("\n", 0, position) + 1


def blank_cpp(text):
    """Replaces comments, literals and preprocessor lines by blanks of the same shape."""
    token = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:\\\n|[^\n])*",
        re.DOTALL | re.MULTILINE,
    )

    def blank(match):
        shape = re.sub(r"[^\n]", " ", match.group())
        # A literal stays an operand: `f("a") {` must not turn into `f( ) {` without a trace.
        return '"' + shape[1:] if match.group()[0] in "\"'R" else shape

    return token.sub(blank, text)


def included(source):
    """(line number, path) of each include."""
    for number, line in enumerate(source.lines, 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)', line)
        if match:
            yield number, match.group(1)


def layer_includes(source):
    layer = source.path.split("/")[0]
    if layer not in ("proto", "engine"):
        return
    for number, path in included(source):
        top = path.split("/")[0]
        if top in LAYERS and top != layer:
            yield number, f"{layer}/ must not include {path}"
        if re.match(r"(boost/)?asio\b", path):
            yield number, f"{layer}/ must not know of Asio"


def room_includes(source):
    """Rooms include the rooms that ROOMS lists for them, and products include no tests."""
    top = source.path.split("/")[0]
    if top not in LAYERS or not source.is_cpp:
        return
    room = source.path.rpartition("/")[0]
    allowed = ROOMS.get(room)
    for number, path in included(source):
        target = path.rpartition("/")[0]
        if path.startswith("test/"):
            yield number, f"{room}/ must not include {path}: the product knows nothing of tests"
        elif allowed is None:
            yield 1, f"{room}/ is in no list of rooms: say in style_test.py what it may include"
            return
        elif target.split("/")[0] == top and target not in (room, *allowed) and "/" in path:
            yield number, f"{room}/ must not include {path}"


def unit_circles(sources):
    """A unit is a .h with its .cpp; none may include itself through others."""
    arrows = {}
    place = {}
    for source in sources:
        if not source.is_cpp or source.path.split("/")[0] not in (*LAYERS, "test"):
            continue
        unit = source.path.rpartition(".")[0]
        for number, path in included(source):
            other = path.rpartition(".")[0]
            if path.endswith(".h") and other != unit and "/" in path:
                arrows.setdefault(unit, set()).add(other)
                place.setdefault((unit, other), (source.path, number))
    for circle in circles(arrows):
        first = circle[0]
        following = next(unit for unit in sorted(arrows[first]) if unit in circle)
        path, number = place[first, following]
        yield "unit_circles", path, number, "these include each other: " + ", ".join(circle)


def circles(arrows):
    """The strongly connected sets of more than one node, sorted (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def parts_of_classes(source):
    """A class that grows is cut into classes, not into files."""
    if source.is_cpp:
        for number, line in enumerate(source.lines, 1):
            if re.search(r"\b[Tt]he part of \w+ that\b", line):
                yield number, "a file that is a part of a class: cut the class into things"


def own_header(source):
    """Each .cpp begins with its own header, so that the header stands alone."""
    top, _, name = source.path.rpartition("/")
    if not source.path.endswith(".cpp") or top.split("/")[0] not in LAYERS or name == "main.cpp":
        return
    includes = list(included(source))
    ours = any(path.startswith(top.split("/")[0] + "/") for _, path in includes)
    if ours and includes[0][1] != source.path[: -len("cpp")] + "h":
        yield includes[0][0], "the first include of a .cpp is its own header"


def file_length(source):
    count = len(source.lines) - (source.lines[-1] == "")
    if count > FILE_LINES_MAX:
        yield count, f"{count} lines; at most {FILE_LINES_MAX}: split by purpose"


def line_length(source):
    if source.path.endswith((".md", ".json")):  # these wrap in the reader's window
        return
    for number, line in enumerate(source.lines, 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns; at most {COLUMNS_MAX}"


def function_length(source):
    for first, last, name in functions(source.code):
        if last - first + 1 > FUNCTION_LINES_MAX:
            yield first, f"{name}: {last - first + 1} lines; at most {FUNCTION_LINES_MAX}"


def functions(code):
    """(first line, last line, name) of each function body that is no lambda."""
    stack = []  # (is a scope, is a function, first line, name)
    start = 0  # where the text that belongs to the next brace begins
    line = 1
    for position, letter in enumerate(code):
        if letter == "\n":
            line += 1
        elif letter == "{":
            head = code[start:position]
            in_scope = all(scope for scope, *_ in stack)
            scope = in_scope and re.search(
                r'\b(namespace|class|struct|union|enum)\b[^()=]*$|\bextern\s*"\s*$', head
            )
            function = in_scope and not scope and not re.search(r"=\s*$", head)
            first = line - head.lstrip().count("\n")
            name = re.search(r"([\w:~]+|operator\S+)\s*\(", head)
            stack.append((bool(scope), function, first, name.group(1) if name else "function"))
            start = position + 1
        elif letter == "}":
            if stack:
                _, function, first, name = stack.pop()
                if function:
                    yield first, line, name
            start = position + 1
        elif letter == ";":
            start = position + 1


def co_await_alone(source):
    """g++ 12 destroys a braced temporary beside co_await twice; conditions hide such
    temporaries.
    """
    for match in re.finditer(r"\bco_await\b", source.code):
        before = re.split(r"[;]", source.code[: match.start()])[-1]
        if re.search(r"[\w>]\s*\{[^{}]*$", before) and not re.search(
            r"\b(else|do|try|noexcept|const|mutable|override)\s*\{[^{}]*$"
            r"|->[^;{]*\{[^{}]*$|\)\s*\{[^{}]*$",
            before,
        ):
            yield source.line_at(match.start()), "co_await inside a braced temporary"
            continue
        depth = 0
        for letter in source.code[match.end() :]:
            depth += (letter == "(") - (letter == ")")
            if letter == ";" and depth == 0:
                break
            if depth < 0:
                yield (
                    source.line_at(match.start()),
                    "co_await in a condition or argument list: name its result first",
                )
                break
            if letter == "{":
                yield (
                    source.line_at(match.start()),
                    "a braced temporary or lambda beside co_await: name it on the line before",
                )
                break


def header_form(source):
    if not source.is_header:
        return
    if not source.lines[0].startswith("//"):
        yield 1, "a header begins with a comment: what it is for, who owns what, which thread"
    if "#pragma once" not in source.lines:
        yield 1, "no #pragma once"
    for match in re.finditer(r"\busing\s+namespace\b", source.code):
        yield source.line_at(match.start()), "no `using namespace` in a header"


def banned_words(source):
    # In pieces, for this file is checked, too.
    to_do = r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b(?!\(#\d+\))"
    machine = r"/wor" r"k/(main|shared|\.)|/tmp/(bri" r"ef|iss" r"ue)|\.libra" r"ry/"
    for number, line in enumerate(source.lines, 1):
        if re.search(to_do, line):
            yield number, "a to-do names its issue in brackets: (#12)"
        if re.search(machine, line):
            yield number, "a path of somebody's machine"


def no_sleeps(source):
    if not source.path.startswith("test/"):
        return
    sleep = r"\b(time\.sleep|sleep_for|sleep_until|usleep|nanosleep|sle" r"ep\(\d)"
    for number, line in enumerate(source.lines, 1):
        if re.search(sleep, line) and not source.path.startswith("test/style_test"):
            yield number, "a test waits for what it needs, not for time to pass"


RULES = (
    layer_includes,
    room_includes,
    parts_of_classes,
    own_header,
    file_length,
    line_length,
    function_length,
    co_await_alone,
    header_form,
    banned_words,
    no_sleeps,
)


def check(source):
    for rule in RULES:
        for number, text in rule(source):
            yield rule.__name__, source.path, number, text


def tests_exist(paths):
    for path, text in style_mirror.check(paths):
        yield "tests_exist", path, 1, text


def formatting(paths):
    clang_format = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not clang_format:
        yield "formatting", ".clang-format", 1, "no clang-format-14: install-dependencies test"
        return
    sources = [path for path in paths if path.endswith((".h", ".cpp"))]
    if not sources:
        return
    result = subprocess.run(
        [clang_format, "--dry-run", "-Werror", *sources],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seen = set()
    for match in re.finditer(r"^([^\s:]+):(\d+):\d+: error", result.stderr, re.MULTILINE):
        if match.group(1) not in seen:  # the first place of each file is enough
            seen.add(match.group(1))
            yield "formatting", match.group(1), int(match.group(2)), "not as clang-format has it"
    if result.returncode and not seen:
        yield "formatting", ".clang-format", 1, result.stderr.strip()


def is_text_source(path):
    if path.suffix in (".h", ".cpp", ".py", ".md", ".txt", ".cmake", ".toml", ".json"):
        return True
    return path.suffix == "" and path.read_bytes()[:2] == b"#!"


def repository_paths():
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(
        str(path.relative_to(ROOT))
        for path in files
        if is_text_source(path) and "corpus" not in path.parts and "__pycache__" not in path.parts
    )


def check_repository():
    paths = repository_paths()
    findings = list(tests_exist(paths)) + list(formatting(paths))
    sources = [Source(path, (ROOT / path).read_text(encoding="utf-8")) for path in paths]
    findings += unit_circles(sources)
    findings += style_comments.check(sources)
    findings += style_documents.check(sources, ROOMS, lambda path: (ROOT / path).exists())
    for source in sources:
        findings += check(source)
    used = {(rule, path) for rule, path, *_ in findings} & ALLOWED.keys()
    for rule, path, number, text in findings:
        if (rule, path) not in ALLOWED:
            print(f"{path}:{number}: {text} [{rule}]")
    for rule, path in ALLOWED.keys() - used:
        print(f"test/style_test.py: the exception ({rule}, {path}) is no longer needed")
    broken = len({finding[:2] for finding in findings} - ALLOWED.keys()) + len(ALLOWED) - len(used)
    print(f"{len(paths)} files checked, {'no rule' if not broken else 'rules'} broken")
    return 1 if broken else 0


def self_test():
    import style_test_cases

    failures = 0
    for expected, path, text in style_test_cases.CASES:
        found = {rule for rule, *_ in check(Source(path, text))}
        if found != ({expected} if expected else set()):
            failures += 1
            print(
                f"expected {expected or 'nothing'}, found {sorted(found) or 'nothing'} in {path}:"
            )
            print(text[:1000])
    found = [
        text for *_, text in unit_circles(
            [Source(path, text) for path, text in style_test_cases.CIRCLE]
        )
    ]
    if found != ["these include each other: server/a/one, server/b/two"]:
        failures += 1
        print(f"unit_circles: finds {found}")
    for text in (
        *style_mirror.failures_of_self_test(),
        *style_comments.failures_of_self_test(Source),
        *style_documents.failures_of_self_test(Source),
    ):
        failures += 1
        print(text)
    unused = {rule.__name__ for rule in RULES} - {case[0] for case in style_test_cases.CASES}
    if unused:
        failures += 1
        print(f"rules without a case: {sorted(unused)}")
    print(f"{len(style_test_cases.CASES)} cases, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else check_repository())
