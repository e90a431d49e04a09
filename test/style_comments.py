"""The rule for the first word of a comment: a sentence begins with its subject, said by its name.

Part of style_test.py, which calls check() with the sources of the repository.
"""

import io
import re
import tokenize

# "Who waits for each reply asks again" makes the reader wait for the subject; "A client that waits
# for each reply asks again" does not.
NO_SUBJECT = re.compile(r"(Who|Whoever|What|Whatever|Those)\b")


def check(sources):
    for source in sources:
        for number, text in comment_subject(source):
            yield "comment_subject", source.path, number, text


def comment_subject(source):
    if source.is_cpp:
        blocks = cpp_blocks(source)
    elif is_python(source):
        blocks = python_blocks(source)
    else:
        return
    for lines in blocks:
        yield from inverted(lines)


def is_python(source):
    return source.path.endswith(".py") or re.match(r"#!.*python", source.lines[0])


def inverted(lines):
    """`lines`: (number, text) of one comment. Sentences may go over several lines."""
    text = ""
    starts = []  # (position in text, line number)
    for number, line in lines:
        if not line.strip():
            line = "\x1e"  # what follows an empty line is a new sentence
        starts.append((len(text), number))
        text += line.strip(" ") + " "
    position = 0
    for sentence in re.split(r"(?<=[.!?:] )|(?<=\x1e )", text):
        if NO_SUBJECT.match(sentence) and not sentence.rstrip().endswith("?"):
            number = max(line for start, line in starts if start <= position)
            yield number, f'a comment begins with its subject: "{sentence[:40].rstrip()}..."'
        position += len(sentence)


def cpp_blocks(source):
    """Comments on lines of their own that follow each other are one; one behind code is another."""
    block = []
    for number, line in enumerate(source.lines, 1):
        alone = re.match(r"\s*//+(.*)", line)
        behind = None if alone else re.search(r"[;{},)]\s+// (.*)", line)
        if alone:
            block.append((number, alone[1]))
            continue
        if block:
            yield block
        block = [(number, behind[1])] if behind else []
    if block:
        yield block


def python_blocks(source):
    block = []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source.text).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        first = token.start[0]
        if token.type == tokenize.COMMENT:
            if block and block[-1][0] != first - 1:
                yield block
                block = []
            block.append((first, token.string.lstrip("#")))
        elif token.type == tokenize.STRING and token.string.startswith('"""'):
            lines = token.string.strip('"').split("\n")
            yield [(first + index, line.strip()) for index, line in enumerate(lines)]
    if block:
        yield block


def failures_of_self_test(source_of):
    """Texts about sentences that the rule misses or refuses in error."""
    cases = (
        ("proto/a.cpp", "// Who waits asks again.\n", [1]),
        ("proto/a.cpp", "// A client that waits asks again.\n", []),
        ("proto/a.cpp", "// Poll first. A client\n// waits. What else\n// is ready comes.\n", [2]),
        ("proto/a.cpp", "// Why? What a question is this?\n", []),
        ("proto/a.cpp", "int a;  // Those of the table\n", [1]),
        ("proto/a.cpp", "// One thing:\n//\n// Whoever has it\nint a;\n", [3]),
        ("proto/a.cpp", "// The client knows who\n// What it is\n", []),
        ("proto/a.cpp", 'auto text = "// Who is it";\n', []),
        ("test/a.py", 'def f():\n    """Whatever it is."""\n    # Those go.\n', [2, 3]),
        ("test/a.py", "# What is it?\nvalue = 'What is it'\n", []),
        ("test/a.md", "# What it is\n", []),
    )
    for path, text, lines in cases:
        found = [number for number, _ in comment_subject(source_of(path, text))]
        if found != lines:
            yield f"comment_subject: finds lines {found}, not {lines}, in {text!r}"
