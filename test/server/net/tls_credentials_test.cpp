#include "server/net/tls_credentials.h"

#include <catch2/catch.hpp>

#include "test/support/temporary_file.h"

using server::TlsConfig;
using server::TlsContext;
using server::UserError;
using test::TemporaryFile;

namespace {

constexpr auto* alice = "alice:00112233445566778899aabbccddeeFF\n";
constexpr auto* bob = "bob:ffeeddccbbaa99887766554433221100\n";

TlsConfig with_keys(const TemporaryFile& file) {
  auto config = TlsConfig{};
  config.mode = proto::TlsMode::allow;
  config.psk_file = file.path();
  return config;
}

}  // namespace

TEST_CASE("keys are read by user, as psktool writes them") {
  const auto file = TemporaryFile(std::string("# comment\n\n") + alice +
                                  "host:7:" + std::string(128, 'a') + "\r\n" + bob);
  const auto keys = server::read_keys(file.path());
  REQUIRE(keys.size() == 3);
  CHECK(keys.at("alice").size() == 16);
  CHECK(keys.at("alice").front() == 0x00);
  CHECK(keys.at("alice").back() == 0xff);
  CHECK(keys.at("host:7") == std::vector<unsigned char>(64, 0xaa));
}

TEST_CASE("a wrong line of keys is refused by its number, and its secret is not told") {
  for (const auto* const line :
       {"alice", "alice:", ":00112233445566778899aabbccddeeff", "alice:0011",
        "alice:00112233445566778899aabbccddeef", "alice:00112233445566778899aabbccddeegg"}) {
    CAPTURE(line);
    const auto file = TemporaryFile(std::string(bob) + line + "\n");
    CHECK_THROWS_WITH(server::read_keys(file.path()), Catch::Contains(file.path() + ":2:") &&
                                                          Catch::Contains("psktool") &&
                                                          !Catch::Contains("0011"));
  }
  CHECK_THROWS_WITH(server::read_keys(TemporaryFile("# nobody\n").path()),
                    Catch::Contains("holds no key"));
  CHECK_THROWS_WITH(server::read_keys("/does/not/exist"),
                    Catch::Contains("/does/not/exist") && Catch::Contains("No such file"));
}

TEST_CASE("where TLS is off there are no credentials and no files are read") {
  auto config = TlsConfig{};
  config.psk_file = "/does/not/exist";
  CHECK(TlsContext(config).credentials() == nullptr);
}

TEST_CASE("a reload gives new credentials to those who come, and leaves the old to who has them") {
  const auto file = TemporaryFile(alice);
  auto context = TlsContext(with_keys(file));
  const auto before = context.credentials();
  CHECK(before->mode() == proto::TlsMode::allow);
  file.replace(bob);
  context.reload();
  CHECK_FALSE(before->key_of("alice").empty());
  CHECK(before->key_of("bob").empty());
  CHECK(context.credentials()->key_of("alice").empty());
  CHECK_FALSE(context.credentials()->key_of("bob").empty());
}

TEST_CASE("a reload of what is wrong or gone keeps what there was") {
  auto file = std::make_unique<TemporaryFile>(alice);
  auto context = TlsContext(with_keys(*file));
  const auto before = context.credentials();
  file->replace("alice:nonsense\n");
  CHECK_THROWS_AS(context.reload(), UserError);
  CHECK(context.credentials() == before);
  const auto config = with_keys(*file);
  file.reset();
  CHECK_THROWS_WITH(context.reload(), Catch::Contains(config.psk_file));
  CHECK(context.credentials() == before);
  auto broken = config;
  broken.certificate = "/does/not/exist.pem";
  CHECK_THROWS_WITH(context.reload(broken), Catch::Contains("certificate /does/not/exist.pem") &&
                                                Catch::Contains("No such file"));
  CHECK(context.credentials() == before);
}

TEST_CASE("credentials that were read apart are put in place without reading them again") {
  auto file = std::make_unique<TemporaryFile>(alice);
  auto context = TlsContext(with_keys(*file));
  file->replace(bob);
  auto read = TlsContext(with_keys(*file));
  const auto credentials = read.credentials();
  file.reset();
  context.exchange(read);
  CHECK(context.credentials() == credentials);
}
