#include "server/net/attach_commands.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "engine/shell_word.h"

using engine::shell_word;
using server::attach_commands;
using server::uri_part;

TEST_CASE("a part of a URI has only letters that stand for themselves") {
  CHECK(uri_part("/opt/ltsp-i386_~.img") == "/opt/ltsp-i386_~.img");
  CHECK(uri_part("50%25 what?#\n\xc3\xa9") == "50%2525%20what%3F%23%0A%C3%A9");
}

TEST_CASE("attach commands name address and export as each client wants them") {
  CHECK(attach_commands({"127.0.0.1:10809"}, "disk", false) ==
        std::vector<std::string>{"nbd-client -N disk 127.0.0.1 10809 /dev/nbd0",
                                 "nbdinfo nbd://127.0.0.1:10809/disk",
                                 "qemu-img info nbd://127.0.0.1:10809/disk"});
  CHECK(attach_commands({"[fe80::1%eth0]:9"}, "two words", true) ==
        std::vector<std::string>{"nbd-client -enable-tls -N 'two words' fe80::1%eth0 9 /dev/nbd0",
                                 "nbdinfo 'nbds://[fe80::1%25eth0]:9/two%20words'"});
  const auto folder = std::filesystem::current_path().string();
  CHECK(attach_commands({"unix:n b.sock"}, "d", false).at(0) ==
        "nbd-client -unix " + shell_word(folder + "/n b.sock") + " -N d /dev/nbd0");
}

TEST_CASE("a command that several addresses have in common comes once") {
  CHECK(attach_commands({"0.0.0.0:9", "[::]:9"}, "d", false).size() == 3);
  CHECK(attach_commands({"vsock:9"}, "d", false).empty());
}
