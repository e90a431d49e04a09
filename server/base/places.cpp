#include "server/base/places.h"

#include <fmt/format.h>

namespace server {

std::string Places::at_place(std::string_view key, std::string_view message) const {
  const auto place = by_key.find(key);
  return place == by_key.end() ? std::string(message)
                               : fmt::format("{}: {}", place->second, message);
}

}  // namespace server
