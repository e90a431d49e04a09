// The command line of `loopnbd ctl`: what to ask a running server for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace server {

inline constexpr auto default_control_socket = "/run/loopnbd/control.sock";

struct Ctl {
  std::string socket = default_control_socket;
  bool json = false;
  double interval_seconds = 1;    // of top
  std::uint64_t frame_count = 0;  // of top; 0: until it is interrupted
  std::string command;
  std::string request;  // a line of JSON
};

// Adds the subcommand "ctl". Parsing fills in what it returns.
std::shared_ptr<Ctl> add_ctl(CLI::App& app);

}  // namespace server
