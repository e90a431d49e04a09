// The words for how much is logged, and how. Constant; any thread.
#pragma once

#include <span>
#include <string_view>

namespace server::log {

// From the most to the least: trace, debug, and so on to off.
std::span<const std::string_view> levels() noexcept;
std::span<const std::string_view> formats() noexcept;

}  // namespace server::log
