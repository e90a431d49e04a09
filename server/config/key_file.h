// Reads the format that nbd-server's configuration has: sections in square brackets with
// `key = value` lines below them, comments behind a number sign at the beginning of a line.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace server {

struct KeyFileEntry {
  std::string key;
  std::string value;  // no white space in front; escapes are resolved
  std::size_t line = 0;
};

struct KeyFileSection {
  std::string name;
  std::string path;  // of the file
  std::size_t line = 0;
  std::vector<KeyFileEntry> entries;

  // As "FILE:LINE".
  std::string place() const;
  std::string place(const KeyFileEntry& entry) const;

  // Of several entries with one key the last one counts. nullptr: there is none.
  const KeyFileEntry* find(std::string_view key) const;
  // Throw UserError with the place when the value is of the wrong kind.
  std::optional<std::string> text(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::optional<std::int64_t> number(std::string_view key) const;
};

// The sections in the order of the file; those with the same name are one. Throws UserError.
std::vector<KeyFileSection> read_key_file(const std::string& path);

}  // namespace server
