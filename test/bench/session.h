// Connects and negotiates: everything before the transmission phase. Blocking; not measured.
#pragma once

#include <chrono>
#include <cstdint>

#include "engine/file_descriptor.h"
#include "test/bench/address.h"

namespace bench {

struct Session {
  engine::FileDescriptor socket;
  bool tcp = false;
  bool structured = false;        // structured replies were negotiated
  std::uint64_t export_size = 0;  // bytes
  std::uint16_t transmission_flags = 0;
};

// Throws std::runtime_error. A server that is not there yet (no socket, connection refused) is
// tried again until `patience` is over: the bench starts servers and generator together, and a
// server has no way to tell when it listens that all of them share. `structured` asks for
// structured replies; the answer may be no.
Session open_session(const Address& address, bool structured, std::chrono::milliseconds patience);

}  // namespace bench
