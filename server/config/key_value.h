// The values of the configuration's keys, in one form for all places that give them: a TOML file, a
// flag of the command line, a request of the control socket. Pure functions over values; any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace server {

// As it was written; a KeyType says what it means. The first alternative is no value of any key.
using KeyValue =
    std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<std::string>>;

struct KeyType {
  enum class Form : std::uint8_t {
    truth,    // true or false
    count,    // a whole number from `least` to `most`
    size,     // bytes: a number, or a text with a suffix
    rate,     // as size, and more than 0
    seconds,  // a number from 0 to `most`
    text,
    label,  // a text that is not empty, or a number from 1
    word,   // one of `words`
    list,   // of texts
  };

  Form form = Form::text;
  std::string_view expected = {};  // for messages: "a text"
  std::string_view noun = {};      // for the manual: "file"; empty: that of the form
  std::uint32_t least = 0;
  std::uint32_t most = 0;
  // In the order of the enumerators that they stand for.
  std::span<const std::string_view> words = {};
  // Of a text, or of each text of a list. Throws std::runtime_error that says why it cannot be.
  void (*check)(std::string_view text) = nullptr;
};

// The meaning of a value. All throw UserError that says what was expected.
bool to_truth(const KeyType& type, const KeyValue& value);
std::uint64_t to_number(const KeyType& type, const KeyValue& value);  // a count, a size or a rate
double to_seconds(const KeyType& type, const KeyValue& value);
std::string to_text(const KeyType& type, const KeyValue& value);  // a text or a label
std::size_t to_word_index(const KeyType& type, const KeyValue& value);
std::vector<std::string> to_list(const KeyType& type, const KeyValue& value);

// The value of a flag that was given these texts; a truth has none of them. Nothing: as if the flag
// had not been given, which a rate of 0 means. Throws UserError.
std::optional<KeyValue> flag_value(const KeyType& type, const std::vector<std::string>& texts);

}  // namespace server
