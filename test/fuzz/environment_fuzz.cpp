// The variables by which a service manager hands over sockets and asks for signs of life; a line
// for each.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "server/base/service_manager.h"
#include "server/net/listen_address.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  auto text = std::string(reinterpret_cast<const char*>(bytes), size);
  for (const auto* const name :
       {"LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "WATCHDOG_PID", "NOTIFY_SOCKET"}) {
    const auto line = text.substr(0, text.find('\n'));
    text.erase(0, line.size() + 1);
    // "me" stands for this process, whose number no corpus knows.
    const auto value = line == "me" ? std::to_string(::getpid()) : line.substr(0, line.find('\0'));
    ::setenv(name, value.c_str(), 1);
  }
  fuzz::require(server::watchdog_interval().count() >= 0, "a watchdog waits for some time");
  // A fuzzed name is not sent to: some socket of this machine might have it.
  server::has_service_manager();
  try {
    fuzz::require(server::take_passed_sockets().empty(), "no sockets are passed here");
  } catch (const std::runtime_error& refusal) {
    fuzz::require(*refusal.what() != '\0', "a refusal says why");
  }
  return 0;
}
