// toml++, with what it asserts about a text turned into an exception: a broken configuration must
// never end the process that reloads it. Nothing else includes toml++. Any thread.
#pragma once

#include <string>
#include <string_view>

namespace server {

// Throws std::logic_error; called by toml++ instead of abort().
[[noreturn]] void fail_toml_assertion(const char* condition);

}  // namespace server

#define TOML_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::server::fail_toml_assertion(#condition))

// With NDEBUG, toml++ has the compiler assume these conditions instead of checking them.
#pragma push_macro("NDEBUG")
#undef NDEBUG
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace server {

// `path` is for messages. Throws UserError, with the line, for a text that is no TOML.
toml::table parse_toml(std::string_view text, const std::string& path);

}  // namespace server
