// Where each key of a table stands in its file, so that what is found wrong later can still say so.
// A value.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace server {

struct Places {
  // As "FILE:LINE: TABLE.KEY"; nothing for what the command line says.
  std::map<std::string, std::string, std::less<>> by_key;

  // `message` behind the place of `key`, where there is one.
  std::string at_place(std::string_view key, std::string_view message) const;

  // Where a key stands makes no difference.
  bool operator==(const Places&) const noexcept { return true; }
};

}  // namespace server
