#include "server/control/control_request.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

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

}  // namespace

ControlRequest::ControlRequest(std::string_view line) : arguments_(parse_object(line)) {
  command_ = take_needed_text("command");
}

const boost::json::value* ControlRequest::take(std::string_view name) {
  taken_.emplace(name);
  return arguments_.if_contains({name.data(), name.size()});
}

std::optional<std::string> ControlRequest::take_text(std::string_view name) {
  const auto* const value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(name, "a text");
  return std::string(value->as_string());
}

std::string ControlRequest::take_needed_text(std::string_view name) {
  auto text = take_text(name);
  if (!text) throw ControlError(fmt::format("\"{}\" is missing", name));
  return *std::move(text);
}

std::optional<std::uint64_t> ControlRequest::take_number(std::string_view name) {
  const auto* const value = take(name);
  if (value == nullptr) return std::nullopt;
  auto failure = boost::json::error_code{};
  const auto number = value->to_number<std::uint64_t>(failure);
  if (failure) refuse(name, "a whole number");
  return number;
}

bool ControlRequest::take_flag(std::string_view name) {
  const auto* const value = take(name);
  if (value == nullptr) return false;
  if (!value->is_bool()) refuse(name, "true or false");
  return value->as_bool();
}

std::optional<double> ControlRequest::take_real(std::string_view name) {
  const auto* const value = take(name);
  if (value == nullptr) return std::nullopt;
  auto failure = boost::json::error_code{};
  const auto number = value->to_number<double>(failure);
  if (failure) refuse(name, "a number");
  return number;
}

void ControlRequest::finish() const {
  for (const auto& entry : arguments_)
    if (!taken_.contains(std::string_view(entry.key().data(), entry.key().size())))
      throw ControlError(
          fmt::format("\"{}\" is not an argument of {}", std::string(entry.key()), command_));
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
