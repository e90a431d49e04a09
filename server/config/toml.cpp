#include "server/config/toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <vector>

#include "server/base/user_error.h"

namespace server {
namespace {

// More would only nest tables that no configuration has, each a step deeper in toml++'s recursion.
constexpr auto dots_max = 64;  // in one line

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

// The bytes that a string may stand behind: white space, what goes before a key or a value, and the
// last one of the byte order mark.
constexpr std::string_view before_string = " \t\r\n=[{,.\xbf";

// A text that must not reach toml++, since it does not end well there.
struct Objection {
  std::size_t line;
  std::string_view why;
};

// The end of the string that begins at `begin` with a quotation mark, or of the text.
std::size_t end_of_string(std::string_view text, std::size_t begin) {
  const auto quote = text[begin];
  const auto delimiter = std::string(3, quote);
  const auto several_lines = text.substr(begin, 3) == delimiter;
  for (auto at = begin + (several_lines ? 3 : 1); at < text.size(); ++at) {
    if (quote == '"' && text[at] == '\\') {
      ++at;
    } else if (several_lines && text.substr(at, 3) == delimiter) {
      at += 3;
      // One or two more of them belong to the text.
      for (auto more = 0; more < 2 && at < text.size() && text[at] == quote; ++more) ++at;
      return at;
    } else if (!several_lines && (text[at] == quote || text[at] == '\n')) {
      return text[at] == quote ? at + 1 : at;
    }
  }
  return text.size();
}

std::optional<Objection> find_objection(std::string_view text) {
  auto line = std::size_t{1};
  auto dots = 0;
  auto at = text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
  while (at < text.size()) {
    const auto byte = text[at];
    if (byte == '#') {
      at = std::min(text.find('\n', at), text.size());
      continue;
    }
    if (byte == '"' || byte == '\'') {
      // toml++ looks for the end of a number or the like there, and takes what follows for letters.
      if (at > 0 && before_string.find(text[at - 1]) == std::string_view::npos)
        return Objection{line, "a quotation mark stands in the middle of a word"};
      const auto end = end_of_string(text, at);
      line += static_cast<std::size_t>(std::ranges::count(text.substr(at, end - at), '\n'));
      at = end;
      continue;
    }
    if (static_cast<unsigned char>(byte) >= 0x80)
      return Objection{line, "a letter that is not ASCII stands outside of quotation marks"};
    if (byte == '.' && ++dots > dots_max)
      return Objection{line, "too many dots outside of quotation marks"};
    if (byte == '\n') {
      ++line;
      dots = 0;
    }
    ++at;
  }
  return std::nullopt;
}

struct AssertionFailed : std::logic_error {
  using std::logic_error::logic_error;
};

bool trips_assertion(std::string_view text) {
  try {
    static_cast<void>(toml::parse(text));
  } catch (const AssertionFailed&) {
    return true;
  } catch (const toml::parse_error&) {
    return false;
  }
  return false;
}

// The line at which toml++ gives up. An assertion has no line, but the parser reads from front to
// back: what is found is the shortest text of whole lines that it gives up on.
std::size_t failing_line(std::string_view text) {
  auto ends = std::vector<std::size_t>{};
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', end + 1))
    ends.push_back(end + 1);
  ends.push_back(text.size());
  const auto first = std::ranges::partition_point(
      ends, [text](std::size_t end) { return !trips_assertion(text.substr(0, end)); });
  return static_cast<std::size_t>(first - ends.begin()) + 1;
}

}  // namespace

void fail_toml_assertion(const char* condition) { throw AssertionFailed(condition); }

toml::table parse_toml(std::string_view text, const std::string& path) {
  if (const auto objection = find_objection(text))
    throw UserError(
        fmt::format("{}:{}: this is no TOML: {}", path, objection->line, objection->why));
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    throw UserError(fmt::format("{}:{}: {}", path, error.source().begin.line, error.description()));
  } catch (const AssertionFailed&) {
    throw UserError(fmt::format(
        "{}:{}: this is no TOML: expected a table header such as [tls] or [[export]], or a key and "
        "its value such as workers = 2",
        path, failing_line(text)));
  }
}

}  // namespace server
