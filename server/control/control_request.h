// One request of the control socket: a line with a JSON object whose "command" says what to do and
// whose other members are its arguments. The reply is a line as well: {"ok": true, "result": {…}}
// or {"ok": false, "error": "why"}.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>

namespace server {

// The request cannot be carried out as it is; the message is for people.
class ControlError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The arguments are taken one by one; what nobody has taken is refused. Throws ControlError.
class ControlRequest {
 public:
  explicit ControlRequest(std::string_view line);

  const std::string& command() const noexcept { return command_; }

  // nullptr: it is not there.
  const boost::json::value* take(std::string_view name);
  std::optional<std::string> take_text(std::string_view name);
  std::string take_needed_text(std::string_view name);
  std::optional<std::uint64_t> take_number(std::string_view name);
  std::optional<double> take_real(std::string_view name);
  bool take_flag(std::string_view name);
  // After all that the command knows has been taken.
  void finish() const;

 private:
  boost::json::object arguments_;
  std::string command_;
  std::set<std::string, std::less<>> taken_;
};

std::string encode_control_result(boost::json::object result);
std::string encode_control_error(std::string_view why);

}  // namespace server
