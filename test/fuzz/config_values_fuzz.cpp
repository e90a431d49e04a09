// Short texts that operators write in files, flags and requests: each is read or refused with a
// reason, and what is read can be written and read again.
#include <stdexcept>
#include <string>
#include <string_view>

#include "server/base/user_error.h"
#include "server/config/export_argument.h"
#include "server/config/parse_size.h"
#include "server/net/listen_address.h"
#include "server/policy/access.h"
#include "server/policy/network.h"
#include "test/fuzz/fuzz.h"

using fuzz::require;

namespace {

// Nothing but a std::runtime_error with a text may come out.
template <typename Parse>
void expect_value_or_reason(const Parse& parse) {
  try {
    parse();
  } catch (const std::runtime_error& refusal) {
    require(*refusal.what() != '\0', "a refusal says why");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto text = std::string_view(reinterpret_cast<const char*>(bytes), size);
  expect_value_or_reason([text] {
    const auto value = server::parse_size(text);
    require(server::parse_size(std::to_string(value)) == value,
            "a size can be written as a number");
  });
  expect_value_or_reason([text] {
    const auto argument = server::parse_export_argument(text);
    require(!argument.name.empty() && !argument.path.empty(), "an export has a name and a path");
    require(text.ends_with(argument.path), "the path is what was written");
  });
  expect_value_or_reason([text] {
    const auto network = server::without_host_bits(server::parse_network(text));
    require(server::contains(network, network.address), "a network contains its address");
    require(server::parse_network(server::format_network(network)) == network,
            "a network can be written and read again");
  });
  expect_value_or_reason([text] { server::parse_client_pattern(text); });
  expect_value_or_reason([text] { server::check_listen_address(text); });
  return 0;
}
