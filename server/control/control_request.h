// One request of the control socket: a line with a JSON object whose "command" says what to do and
// whose other members are its arguments. The reply is a line as well: {"ok": true, "result": {…}}
// or {"ok": false, "error": "why"}.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "server/control/control_argument.h"

namespace server {

// The request cannot be carried out as it is; the message is for people.
class ControlError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// All of its functions throw ControlError.
class ControlRequest {
 public:
  explicit ControlRequest(std::string_view line);

  const std::string& command() const noexcept { return command_; }

  // Refuses arguments that the command does not have, values that they cannot have, and a request
  // without those that it needs. `exactly_one`: of them all.
  void check(std::span<const ControlArgument> known, bool exactly_one = false) const;

  // nullptr: it is not there.
  const boost::json::value* take(std::string_view name) const;
  std::optional<std::string> take_text(std::string_view name) const;
  std::string take_needed_text(std::string_view name) const;
  std::optional<std::uint64_t> take_number(std::string_view name) const;
  std::optional<double> take_real(std::string_view name) const;
  bool take_flag(std::string_view name) const;

 private:
  void check_value(const ControlArgument& argument) const;

  boost::json::object arguments_;  // without the command
  std::string command_;
};

std::string encode_control_result(boost::json::object result);
std::string encode_control_error(std::string_view why);

}  // namespace server
