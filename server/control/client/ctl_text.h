// The control socket's answers as text for people.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace server {

// Lines, each with its end.
std::string format_status(const boost::json::object& status);
std::string format_connections(const boost::json::object& status);

// One picture of `top`: what has happened between two statuses, so many seconds apart. At most
// `lines_max` lines.
std::string format_top(const boost::json::object& before, const boost::json::object& after,
                       double seconds, std::size_t lines_max);

}  // namespace server
