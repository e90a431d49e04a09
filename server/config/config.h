// The configuration that the operator asked for, from a TOML file and the command line. Values
// only: keys.h says how each is written, read_config.h reads them, validate.h checks the whole.
// Nothing listens before all of it is validated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/device_spec.h"
#include "server/base/places.h"
#include "server/net/tls_config.h"
#include "server/policy/access.h"
#include "server/policy/rate_limiter.h"

namespace server {

struct ExportConfig {
  std::string name;  // not empty; unique
  std::string path;
  std::string description;
  bool read_only = false;
  std::uint64_t offset = 0;           // bytes
  std::optional<std::uint64_t> size;  // bytes
  std::string partition;              // number, label or UUID; empty: all of the file
  engine::DirectIo direct_io = engine::DirectIo::automatic;
  bool lock = true;
  RateLimits limits;         // of all clients together
  RateLimits client_limits;  // of each client address
  AccessRules access;
  std::uint32_t writers_max = 0;  // client addresses that may write at the same time; 0: all
  bool tls_required = false;      // where TLS is allowed, this export is for clients that use it
  Places places;

  std::string at_place(std::string_view key, std::string_view message) const {
    return places.at_place(key, message);
  }

  // Whether both say the same, wherever they say it.
  bool operator==(const ExportConfig&) const = default;
};

inline constexpr std::string_view default_listen_address = "127.0.0.1:10809";
inline constexpr std::uint64_t default_memory = 64U << 20;  // bytes; less in a small container
inline constexpr std::uint32_t connections_max = 1U << 20;
inline constexpr std::uint32_t default_connections = 1000;  // fewer in a small container
inline constexpr std::uint32_t workers_max = 256;
inline constexpr std::uint32_t busy_poll_us_max = 1000;
inline constexpr std::uint32_t wake_latency_us_max = 1000;
inline constexpr std::uint32_t writers_max = 1U << 20;
inline constexpr std::uint32_t slow_request_ms_max = 3'600'000;

struct Config {
  std::vector<std::string>
      listen;                 // as written; empty: the default address, or what systemd passes
  std::uint32_t workers = 0;  // 0: derived
  std::optional<std::uint64_t> memory;  // bytes: the budget for data in flight; nothing: derived
  std::optional<std::uint32_t> connections_max;  // nothing: derived
  std::uint32_t busy_poll_us = 0;                // a worker looks for more so long before it sleeps
  std::optional<std::uint32_t>
      wake_latency_us;  // no processor sleeps deeper while clients are at work
  std::string log_level = "info";
  std::string log_format = "text";       // or "json"
  std::uint32_t slow_request_ms = 1000;  // requests that take longer are logged; 0: none are
  std::string http_listen;               // for /metrics and the like; empty: not served
  TlsConfig tls;
  std::string user;     // to become when everything is open; empty: stay who started the program
  bool sandbox = true;  // give up what serving does not need
  std::string control_socket;         // path; empty: none
  bool stdio = false;                 // serve one client on standard input and output
  std::vector<ExportConfig> exports;  // the first is the default export
  Places places;                      // of the keys outside of any table
};

}  // namespace server
