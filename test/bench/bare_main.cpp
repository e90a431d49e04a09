#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "test/bench/bare_server.h"

int main(int count, char** arguments) {
  if (count != 3) {
    fmt::print(stderr, "usage: loopnbd_bare_server FILE SOCKET\n");
    return 2;
  }
  try {
    bench::BareServer(arguments[1], arguments[2]).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "loopnbd_bare_server: {}\n", error.what());
    return 1;
  }
}
