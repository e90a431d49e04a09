#include "server/base/log_names.h"

#include <array>

namespace server::log {
namespace {

constexpr std::array<std::string_view, 7> level_names = {"trace", "debug",    "info", "warn",
                                                         "error", "critical", "off"};
constexpr std::array<std::string_view, 2> format_names = {"text", "json"};

}  // namespace

std::span<const std::string_view> levels() noexcept { return level_names; }

std::span<const std::string_view> formats() noexcept { return format_names; }

}  // namespace server::log
