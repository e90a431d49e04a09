"""Cases for each rule of style_test.py, and some for none: (rule or None, path, text)."""

HEADER = "// What it is for.\n#pragma once\n"


def body(lines):
    return "{\n" + "  f();\n" * (lines - 2) + "}\n"


# (path, text): server/a/one and server/b/two include each other.
CIRCLE = [
    ("server/a/one.h", HEADER + '#include "server/c/three.h"\n'),
    ("server/a/one.cpp", '#include "server/a/one.h"\n#include "server/b/two.h"\n'),
    ("server/b/two.h", HEADER + '#include "server/a/one.h"\n'),
    ("server/c/three.h", HEADER + "#include <vector>\n"),
]

CASES = [
    (None, "proto/a.h", HEADER + '#include "proto/b.h"\n#include <vector>\n'),
    (None, "server/a.h", HEADER + '#include <boost/asio.hpp>\n#include "engine/io.h"\n'),
    (None, "engine/a.cpp", '// "server/a.h" and co_await {x} in a comment\n'),
    ("layer_includes", "proto/a.h", HEADER + '#include "engine/io.h"\n'),
    ("layer_includes", "engine/a.cpp", '#include "proto/wire.h"\n'),
    ("layer_includes", "engine/a.cpp", '#include "server/worker.h"\n'),
    ("layer_includes", "proto/a.cpp", "#include <boost/asio/buffer.hpp>\n"),
    (None, "server/net/a.h", HEADER + '#include "server/base/log.h"\n#include "proto/a.h"\n'),
    ("room_includes", "server/net/a.h", HEADER + '#include "server/config/config.h"\n'),
    ("room_includes", "server/net/a.h", HEADER + '#include "server/server.h"\n'),
    ("room_includes", "engine/align/a.h", HEADER + '#include "engine/file/b.h"\n'),
    ("room_includes", "server/attic/a.h", HEADER + "#include <vector>\n"),
    ("room_includes", "server/net/a.h", HEADER + '#include "test/support/test_client.h"\n'),
    ("parts_of_classes", "server/a.h", "// The part of Worker that sends." + "\n#pragma once\n"),
    (None, "server/a.cpp", '#include "server/a.h"\n#include <vector>\n'),
    ("own_header", "server/a.cpp", '#include <vector>\n#include "server/a.h"\n'),
    ("own_header", "server/a_more.cpp", '#include "server/a.h"\n'),
    (None, "server/a.cpp", "x;\n" * 500),
    ("file_length", "server/a.cpp", "x;\n" * 501),
    (None, "server/a.cpp", "x" * 100 + "\n"),
    ("line_length", "server/a.cpp", "x" * 101 + "\n"),
    ("line_length", "test/system/a_test.py", "# " + "x" * 99 + "\n"),
    # function_length: the head counts, and only functions count
    (None, "server/a.cpp", "int f(int a) " + body(60)),
    ("function_length", "server/a.cpp", "int f(int a) " + body(61)),
    (
        "function_length",
        "server/a.cpp",
        "namespace a {\nclass B {\n int f() const noexcept " + body(61) + "};\n}\n",
    ),
    ("function_length", "server/a.cpp", "A::A(int a) : a_{a}, b_(1)\n" + body(61)),
    ("function_length", "test/proto/a_test.cpp", 'TEST_CASE("a { b") ' + body(61)),
    (None, "server/a.cpp", "namespace a {\n" + "int b;\n" * 80 + "}\n"),
    (None, "server/a.cpp", "const int a[] = {\n" + "  1,\n" * 80 + "};\n"),
    (None, "server/a.cpp", "struct A {\n" + "  int b() { return 1'000; }\n" * 80 + "};\n"),
    # co_await_alone
    (None, "server/a.cpp", "f() {\n  auto a = A{1};\n  co_await send(a);\n}\n"),
    (None, "server/a.cpp", "f() {\n  if (a) {\n    auto b = co_await g((c));\n  }\n}\n"),
    (None, "server/a.cpp", "auto f() -> awaitable<A> {\n  co_await g();\n  if (a) { b(); }\n}\n"),
    (None, "server/a.cpp", "spawn([self]() -> awaitable<void> { co_await self->run(); }, d);\n"),
    ("co_await_alone", "server/a.cpp", "f() {\n  co_await send(A{1});\n}\n"),
    ("co_await_alone", "server/a.cpp", "f() {\n  co_await send(\n    {1, 2});\n}\n"),
    ("co_await_alone", "server/a.cpp", "f() {\n  auto a = A{co_await g()};\n}\n"),
    ("co_await_alone", "server/a.cpp", "f() {\n  if (co_await g()) h();\n}\n"),
    ("co_await_alone", "server/a.cpp", "f() {\n  co_await g([a] { return a; });\n}\n"),
    # header_form
    ("header_form", "server/a.h", "// Comment.\nint a;\n"),
    ("header_form", "server/a.h", "#pragma once\n"),
    ("header_form", "server/a.h", HEADER + "using namespace std;\n"),
    # banned_words
    (None, "server/a.cpp", "// TO" "DO(#12): later\n"),
    ("banned_words", "server/a.cpp", "// TO" "DO: later\n"),
    ("banned_words", "README.md", "see /wor" "k/main\n"),
    # no_sleeps
    (None, "server/a.cpp", "sleep_for(1s);\n"),
    ("no_sleeps", "test/server/a_test.cpp", "std::this_thread::sleep_for(1s);\n"),
    ("no_sleeps", "test/system/a_test.py", "time." "sleep(1)\n"),
]
