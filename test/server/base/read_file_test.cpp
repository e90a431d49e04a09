#include "server/base/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <string>

#include "engine/file_descriptor.h"
#include "server/base/user_error.h"
#include "test/support/temporary_folder.h"

using engine::FileDescriptor;
using server::read_file;
using server::UserError;
using test::TemporaryFolder;

TEST_CASE("a regular file is read whole, an empty one as well") {
  const auto folder = TemporaryFolder();
  auto text = std::string(200'000, 'x');
  text += '\n';
  CHECK(read_file(folder.write("long", text)) == text);
  CHECK(read_file(folder.write("empty", "")).empty());
}

TEST_CASE("a file that is missing, too long or a folder is refused by its name") {
  const auto folder = TemporaryFolder();
  CHECK_THROWS_WITH(read_file(folder / "missing"),
                    Catch::Contains("missing: No such file or directory"));
  CHECK_THROWS_WITH(read_file(folder.path()), Catch::Contains("Is a directory"));
  const auto huge = folder.write("huge", "");
  REQUIRE(::truncate(huge.c_str(), server::text_file_length_max + 1) == 0);
  CHECK_THROWS_WITH(read_file(huge), Catch::Contains("longer than 16 MiB"));
  REQUIRE(::truncate(huge.c_str(), server::text_file_length_max) == 0);
  CHECK(read_file(huge).size() == server::text_file_length_max);
  CHECK_THROWS_AS(read_file("/dev/zero"), UserError);
}

TEST_CASE("a pipe is read to its end, and only once") {
  auto ends = std::array<int, 2>{};
  REQUIRE(::pipe(ends.data()) == 0);
  const auto reader = FileDescriptor(ends[0]);
  auto writer = FileDescriptor(ends[1]);
  REQUIRE(::write(writer.get(), "workers = 1\n", 12) == 12);
  writer.reset();
  const auto path = "/dev/fd/" + std::to_string(reader.get());
  CHECK(read_file(path) == "workers = 1\n");
  CHECK_THROWS_WITH(read_file(path), Catch::Contains("nobody writes into"));
}

TEST_CASE("a pipe without a writer, or with a silent one, is not waited for without end") {
  const auto folder = TemporaryFolder();
  const auto fifo = folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(read_file(fifo), Catch::Contains("nobody writes into"));
  const auto silent = FileDescriptor(::open(fifo.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(silent);
  CHECK_THROWS_WITH(read_file(fifo, std::chrono::milliseconds(1)),
                    Catch::Contains("neither writes nor closes"));
}
