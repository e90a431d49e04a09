// A request of the control socket that adds an export, with all keys that one may have: what comes
// out is an export that the configuration would have taken, or a reason.
#include <stdexcept>

#include "server/control/control_request.h"
#include "server/control/export_request.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const auto known = server::export_request_arguments();
  const auto line = std::string_view(reinterpret_cast<const char*>(bytes), size);
  try {
    const auto request = server::ControlRequest(line);
    request.take_number("size");
    request.check(known);
    const auto taken = server::take_export(request);
    fuzz::require(!taken.name.empty() && !taken.path.empty(), "an export has a name and a path");
  } catch (const std::runtime_error& refusal) {
    const auto reply = server::encode_control_error(refusal.what());
    fuzz::require(reply.find('\n') >= reply.size() - 1, "a reply is one line");
  }
  return 0;
}
