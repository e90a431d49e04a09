#include "server/config/key_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "server/base/user_error.h"
#include "server/config/parse_size.h"

namespace server {
namespace {

using Form = KeyType::Form;

[[noreturn]] void refuse(const KeyType& type) {
  throw UserError(fmt::format("expected {}", type.expected));
}

// A whole text as a number; nothing when it is none.
template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  auto number = Number{};
  const auto* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number);
  if (failure != std::errc{} || rest != end) return std::nullopt;
  return number;
}

std::uint64_t parse_as(const KeyType& type, std::string_view text) {
  return type.form == Form::rate ? parse_size(text, "rate", "a number a second") : parse_size(text);
}

std::uint64_t to_size(const KeyType& type, const KeyValue& value) {
  if (const auto* const number = std::get_if<std::int64_t>(&value); number && *number >= 0)
    return static_cast<std::uint64_t>(*number);
  const auto* const text = std::get_if<std::string>(&value);
  if (text == nullptr) refuse(type);
  return parse_as(type, *text);
}

}  // namespace

bool to_truth(const KeyType& type, const KeyValue& value) {
  const auto* const truth = std::get_if<bool>(&value);
  if (truth == nullptr) refuse(type);
  return *truth;
}

std::uint64_t to_number(const KeyType& type, const KeyValue& value) {
  if (type.form == Form::count) {
    const auto* const number = std::get_if<std::int64_t>(&value);
    if (number == nullptr || *number < type.least || *number > type.most)
      throw UserError(fmt::format("expected a whole number from {} to {}", type.least, type.most));
    return static_cast<std::uint64_t>(*number);
  }
  const auto size = to_size(type, value);
  if (type.form == Form::rate && size == 0)
    throw UserError("expected more than 0; leave it out for no limit");
  return size;
}

double to_seconds(const KeyType& type, const KeyValue& value) {
  auto seconds = -1.0;
  if (const auto* const real = std::get_if<double>(&value)) seconds = *real;
  if (const auto* const whole = std::get_if<std::int64_t>(&value))
    seconds = static_cast<double>(*whole);
  if (!(seconds >= 0) || seconds > type.most)
    throw UserError(fmt::format("expected a number of seconds from 0 to {}", type.most));
  return seconds;
}

std::string to_text(const KeyType& type, const KeyValue& value) {
  if (type.form == Form::label)
    if (const auto* const number = std::get_if<std::int64_t>(&value); number && *number > 0)
      return fmt::to_string(*number);
  const auto* const text = std::get_if<std::string>(&value);
  if (text == nullptr || (type.form == Form::label && text->empty())) refuse(type);
  if (type.check != nullptr) type.check(*text);
  return *text;
}

std::size_t to_word_index(const KeyType& type, const KeyValue& value) {
  const auto* const text = std::get_if<std::string>(&value);
  if (text == nullptr)
    throw UserError(fmt::format("expected one of {}", fmt::join(type.words, ", ")));
  const auto word = std::ranges::find(type.words, *text);
  if (word == type.words.end())
    throw UserError(fmt::format("\"{}\" is not one of {}", *text, fmt::join(type.words, ", ")));
  return static_cast<std::size_t>(word - type.words.begin());
}

std::vector<std::string> to_list(const KeyType& type, const KeyValue& value) {
  const auto* const list = std::get_if<std::vector<std::string>>(&value);
  if (list == nullptr) refuse(type);
  if (type.check != nullptr)
    for (const auto& text : *list) type.check(text);
  return *list;
}

std::optional<KeyValue> flag_value(const KeyType& type, const std::vector<std::string>& texts) {
  if (type.form == Form::list) return texts;
  const auto& text = texts.front();
  switch (type.form) {
    case Form::count:
      if (const auto number = parse_number<std::int64_t>(text)) return *number;
      break;
    case Form::seconds:
      if (const auto number = parse_number<double>(text)) return *number;
      break;
    case Form::size:
      return static_cast<std::int64_t>(parse_as(type, text));
    case Form::rate: {
      const auto rate = static_cast<std::int64_t>(parse_as(type, text));
      if (rate == 0) return std::nullopt;
      return rate;
    }
    default:
      break;
  }
  return text;  // a number that is none is refused like any text in its place
}

}  // namespace server
