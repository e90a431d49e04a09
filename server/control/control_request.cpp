#include "server/control/control_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <utility>
#include <vector>

namespace server {
namespace {

boost::json::object parse_object(std::string_view line) {
  auto failure = boost::json::error_code{};
  auto value = boost::json::parse({line.data(), line.size()}, failure);
  if (failure) throw ControlError(fmt::format("the request is not JSON: {}", failure.message()));
  if (!value.is_object()) throw ControlError("the request is not a JSON object");
  return std::move(value.as_object());
}

[[noreturn]] void refuse(std::string_view name, std::string_view expected) {
  throw ControlError(fmt::format("\"{}\": expected {}", name, expected));
}

[[noreturn]] void refuse_missing(std::string_view name) {
  throw ControlError(fmt::format("\"{}\" is missing", name));
}

std::string names_of(std::span<const ControlArgument> known) {
  auto names = std::vector<std::string>{};
  for (const auto& argument : known)
    if (std::ranges::find(names, argument.name) == names.end()) names.push_back(argument.name);
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

ControlRequest::ControlRequest(std::string_view line) : arguments_(parse_object(line)) {
  command_ = take_needed_text("command");
  arguments_.erase("command");
}

const boost::json::value* ControlRequest::take(std::string_view name) const {
  return arguments_.if_contains({name.data(), name.size()});
}

std::optional<std::string> ControlRequest::take_text(std::string_view name) const {
  const auto* const value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(name, "a text");
  return std::string(value->as_string());
}

std::string ControlRequest::take_needed_text(std::string_view name) const {
  auto text = take_text(name);
  if (!text) refuse_missing(name);
  return *std::move(text);
}

std::optional<std::uint64_t> ControlRequest::take_number(std::string_view name) const {
  const auto* const value = take(name);
  if (value == nullptr) return std::nullopt;
  auto failure = boost::json::error_code{};
  const auto number = value->to_number<std::uint64_t>(failure);
  if (failure) refuse(name, "a whole number");
  return number;
}

bool ControlRequest::take_flag(std::string_view name) const {
  const auto* const value = take(name);
  if (value == nullptr) return false;
  if (!value->is_bool()) refuse(name, "true or false");
  return value->as_bool();
}

std::optional<double> ControlRequest::take_real(std::string_view name) const {
  const auto* const value = take(name);
  if (value == nullptr) return std::nullopt;
  auto failure = boost::json::error_code{};
  const auto number = value->to_number<double>(failure);
  if (failure) refuse(name, "a number");
  return number;
}

void ControlRequest::check_value(const ControlArgument& argument) const {
  using Kind = ControlArgument::Kind;
  const auto& name = argument.name;
  if (argument.needed && take(name) == nullptr) refuse_missing(name);
  if (argument.kind == Kind::export_key) return;
  if (argument.kind == Kind::flag) {
    take_flag(name);
  } else if (argument.kind == Kind::real) {
    take_real(name);
  } else if (argument.kind == Kind::number || argument.kind == Kind::size) {
    const auto number = take_number(name);
    if (number && (*number < argument.number_min || *number > argument.number_max))
      refuse(name, fmt::format("a number from {} to {}", argument.number_min, argument.number_max));
  } else {
    const auto text = take_text(name);
    const auto& choices = argument.choices;
    if (text && !choices.empty() && std::ranges::find(choices, *text) == choices.end())
      refuse(name, fmt::format("one of {}", fmt::join(choices, ", ")));
  }
}

void ControlRequest::check(std::span<const ControlArgument> known, bool exactly_one) const {
  for (const auto& entry : arguments_) {
    const auto name = std::string(entry.key());
    if (std::ranges::find(known, name, &ControlArgument::name) == known.end())
      throw ControlError(fmt::format("\"{}\" is not an argument of {}; there are {}", name,
                                     command_, names_of(known)));
  }
  for (const auto& argument : known) check_value(argument);
  if (exactly_one && arguments_.size() != 1)
    throw ControlError(fmt::format("{} takes one of {}", command_, names_of(known)));
}

std::string encode_control_result(boost::json::object result) {
  auto reply = boost::json::object{{"ok", true}};
  reply["result"] = std::move(result);
  return boost::json::serialize(reply) + '\n';
}

std::string encode_control_error(std::string_view why) {
  const auto reply = boost::json::object{
      {"ok", false}, {"error", boost::json::string_view(why.data(), why.size())}};
  return boost::json::serialize(reply) + '\n';
}

}  // namespace server
