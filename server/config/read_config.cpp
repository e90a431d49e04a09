#include "server/config/read_config.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "server/base/log.h"
#include "server/base/log_names.h"
#include "server/base/user_error.h"
#include "server/config/parse_size.h"
#include "server/config/table_reader.h"
#include "server/config/toml.h"
#include "server/config/validate.h"
#include "server/net/listen_address.h"

namespace server {
namespace {

// Its number, or a text: its label or UUID.
std::string read_partition(TableReader& reader) {
  const auto* const node = reader.take("partition");
  if (node == nullptr) return "";
  const auto number = node->value_exact<std::int64_t>();
  if (number && *number > 0) return fmt::to_string(*number);
  const auto text = node->value_exact<std::string>();
  if (!text || text->empty())
    reader.fail(*node, "partition", "expected a partition's number, label or UUID");
  return *text;
}

// requests or bytes a second
std::uint64_t take_rate(TableReader& reader, std::string_view key) {
  const auto rate = reader.take_size(key);
  if (rate == 0U)
    reader.fail(*reader.take(key), key, "expected more than 0; leave it out for no limit");
  return rate.value_or(0);
}

RateLimits read_limits(TableReader& parent, std::string_view key, const std::string& path) {
  auto limits = RateLimits{};
  const auto* const node = parent.take(key);
  if (node == nullptr) return limits;
  const auto* const table = node->as_table();
  if (table == nullptr)
    parent.fail(*node, key,
                "expected a table such as { read_iops = 5000, write_bytes = \"100M\" }");
  auto reader = TableReader(*table, path, fmt::format("{}.", key));
  for (const auto& rate : rates) limits.*rate.value = take_rate(reader, rate.name);
  if (const auto* const burst = reader.take("burst_seconds")) {
    const auto seconds = burst->value<double>();
    if (!seconds || !(*seconds >= 0) || *seconds > burst_seconds_max)
      reader.fail(*burst, "burst_seconds",
                  fmt::format("expected a number of seconds from 0 to {}", burst_seconds_max));
    limits.burst_seconds = *seconds;
  }
  reader.finish("read_iops, write_iops, read_bytes, write_bytes, burst_seconds");
  return limits;
}

void read_control(TableReader& parent, const std::string& path, Config& config) {
  const auto* const node = parent.take("control");
  if (node == nullptr) return;
  const auto* const table = node->as_table();
  if (table == nullptr) parent.fail(*node, "control", "write [control] and its keys below it");
  auto reader = TableReader(*table, path, "control.");
  config.control_socket =
      reader.take_value<std::string>("socket", "the path of a Unix socket").value_or("");
  reader.finish("socket");
}

TlsConfig read_tls(const toml::table& table, const std::string& path) {
  auto reader = TableReader(table, path, "tls.");
  auto config = TlsConfig{};
  const auto take_path = [&](std::string_view key) {
    const auto value = reader.take_value<std::string>(key, "the path of a file");
    if (value && value->empty()) reader.fail(*table.get(key), key, "expected the path of a file");
    return value.value_or("");
  };
  const auto mode = reader.take_value<std::string>("mode", "\"off\", \"allow\" or \"require\"");
  config.certificate = take_path("certificate");
  config.key = take_path("key");
  config.client_ca = take_path("client_ca");
  config.psk_file = take_path("psk_file");
  // Who gives the server a key and no mode wants it to be used.
  config.mode = proto::TlsMode::require;
  if (mode)
    config.mode = reader.checked(*table.get("mode"), "mode", [&] { return parse_tls_mode(*mode); });
  for (const auto& [key, node] : table)
    config.places.by_key.emplace(key.str(), reader.place(node, key.str()));
  reader.finish("mode, certificate, key, client_ca, psk_file");
  return config;
}

std::vector<ClientPattern> read_patterns(TableReader& reader, std::string_view key) {
  constexpr std::string_view expected =
      "expected a list of clients such as [\"10.0.0.0/8\", \"uid:1000\"]";
  auto patterns = std::vector<ClientPattern>{};
  const auto* const node = reader.take(key);
  if (node == nullptr) return patterns;
  const auto* const array = node->as_array();
  if (array == nullptr) reader.fail(*node, key, expected);
  // An empty list would mean "nobody" to one reader and "everybody" to another.
  if (array->empty())
    reader.fail(*node, key, "an empty list names nobody: leave the key out for no rule at all");
  for (const auto& element : *array) {
    const auto text = element.value_exact<std::string>();
    if (!text) reader.fail(element, key, expected);
    patterns.push_back(reader.checked(element, key, [&] { return parse_client_pattern(*text); }));
  }
  return patterns;
}

void read_security(TableReader& reader, const std::string& path, Config& config) {
  config.user = reader.take_value<std::string>("user", "the name of a user").value_or("");
  config.sandbox = reader.take_value<bool>("sandbox", "true or false").value_or(true);
  const auto* const node = reader.take("tls");
  if (node == nullptr) return;
  const auto* const table = node->as_table();
  if (table == nullptr) reader.fail(*node, "tls", "write [tls] and its keys below it");
  config.tls = read_tls(*table, path);
}

void read_export_security(TableReader& reader, const toml::table& table, ExportConfig& config) {
  config.access.allow = read_patterns(reader, "allow");
  config.access.read_only_for = read_patterns(reader, "read_only_for");
  config.writers_max = reader.take_count("writers", writers_max).value_or(0);
  const auto tls = reader.take_value<std::string>("tls", "\"allow\" or \"require\"");
  if (!tls) return;
  if (*tls != "allow" && *tls != "require")
    reader.fail(
        *table.get("tls"), "tls",
        fmt::format("\"{}\" is not one of allow, require: tls.mode is for all exports", *tls));
  config.tls_required = *tls == "require";
}

ExportConfig read_export(const toml::table& table, const std::string& path, std::size_t index) {
  auto reader = TableReader(table, path, fmt::format("export[{}].", index));
  auto config = ExportConfig{};
  const auto name = reader.take_value<std::string>("name", "a text");
  const auto file = reader.take_value<std::string>("path", "the path of a file or block device");
  if (!file)
    throw UserError(
        fmt::format("{}:{}: export[{}]: no \"path\": say which file or block device it is, as in "
                    "path = \"/srv/disk.img\"",
                    path, table.source().begin.line, index));
  config.path = *file;
  config.name = name.value_or(config.path.substr(config.path.rfind('/') + 1));
  if (const auto* const node = table.get("name"); node != nullptr)
    reader.checked(*node, "name", [&] { check_export_name(config.name); });
  config.description = reader.take_value<std::string>("description", "a text").value_or("");
  if (const auto* const node = table.get("description"); node != nullptr)
    reader.checked(*node, "description", [&] { check_description(config.description); });
  config.read_only = reader.take_value<bool>("read_only", "true or false").value_or(false);
  config.offset = reader.take_size("offset").value_or(0);
  config.size = reader.take_size("size");
  config.partition = read_partition(reader);
  config.lock = reader.take_value<bool>("lock", "true or false").value_or(true);
  if (const auto mode = reader.take_value<std::string>("direct_io", "\"auto\", \"on\" or \"off\""))
    config.direct_io = reader.checked(*table.get("direct_io"), "direct_io",
                                      [&] { return parse_direct_io(*mode); });
  read_export_security(reader, table, config);
  config.limits = read_limits(reader, "limits", path);
  config.client_limits = read_limits(reader, "client_limits", path);
  for (const auto& [key, node] : table)
    config.places.by_key.emplace(key.str(), reader.place(node, key.str()));
  reader.finish(
      "name, path, description, read_only, offset, size, partition, direct_io, lock, tls, allow, "
      "read_only_for, writers, limits, client_limits");
  return config;
}

void read_listen(TableReader& reader, Config& config) {
  const auto* const node = reader.take("listen");
  if (node == nullptr) return;
  constexpr std::string_view expected =
      "expected a list of addresses such as [\"127.0.0.1:10809\"]";
  const auto* const array = node->as_array();
  if (array == nullptr) reader.fail(*node, "listen", expected);
  for (const auto& element : *array) {
    const auto address = element.value_exact<std::string>();
    if (!address) reader.fail(element, "listen", expected);
    reader.checked(element, "listen", [&] { check_listen_address(*address); });
    config.listen.push_back(*address);
  }
}

void read_http(TableReader& reader, const std::string& path, Config& config) {
  const auto* const node = reader.take("http");
  if (node == nullptr) return;
  const auto* const table = node->as_table();
  if (table == nullptr) reader.fail(*node, "http", "write [http] and its keys below it");
  auto http = TableReader(*table, path, "http.");
  if (const auto address = http.take_value<std::string>("listen", "an address as text")) {
    http.checked(*table->get("listen"), "listen", [&] { check_listen_address(*address); });
    config.http_listen = *address;
  }
  http.finish("listen");
}

void read_exports(TableReader& reader, const std::string& path, Config& config) {
  const auto* const node = reader.take("export");
  if (node == nullptr) return;
  const auto* const array = node->as_array();
  if (array == nullptr)
    reader.fail(*node, "export", "write [[export]] with two brackets: there may be several");
  for (const auto& element : *array) {
    const auto* const table = element.as_table();
    if (table == nullptr) reader.fail(element, "export", "write [[export]] and its keys below it");
    config.exports.push_back(read_export(*table, path, config.exports.size()));
  }
}

}  // namespace

proto::TlsMode parse_tls_mode(std::string_view text) {
  if (text == "off") return proto::TlsMode::off;
  if (text == "allow") return proto::TlsMode::allow;
  if (text == "require") return proto::TlsMode::require;
  throw UserError(fmt::format("\"{}\" is not one of off, allow, require", text));
}

engine::DirectIo parse_direct_io(std::string_view text) {
  if (text == "auto") return engine::DirectIo::automatic;
  if (text == "on") return engine::DirectIo::on;
  if (text == "off") return engine::DirectIo::off;
  throw UserError(fmt::format("\"{}\" is not one of auto, on, off", text));
}

Config read_config(const std::string& path) {
  auto file = std::ifstream(path);
  if (!file)
    throw UserError(
        fmt::format("cannot read the configuration {}: {}", path, std::strerror(errno)));
  const auto text = std::string(std::istreambuf_iterator<char>(file), {});
  const auto table = parse_toml(text, path);
  auto config = Config{};
  auto reader = TableReader(table, path, "");
  read_listen(reader, config);
  config.workers = reader.take_count("workers", workers_max).value_or(0);
  config.memory = reader.take_size("memory");
  config.connections_max =
      reader.take_count("max_connections", connections_max).value_or(config.connections_max);
  config.busy_poll_us = reader.take_count("busy_poll_us", busy_poll_us_max, 0).value_or(0);
  config.wake_latency_us = reader.take_count("wake_latency_us", wake_latency_us_max, 0);
  if (const auto level = reader.take_value<std::string>("log_level", "a text")) {
    if (!log::is_level(*level))
      reader.fail(*table.get("log_level"), "log_level",
                  fmt::format("\"{}\" is not one of {}", *level, fmt::join(log::levels(), ", ")));
    config.log_level = *level;
  }
  if (const auto format = reader.take_value<std::string>("log_format", "a text")) {
    if (!log::is_format(*format))
      reader.fail(*table.get("log_format"), "log_format",
                  fmt::format("\"{}\" is not one of {}", *format, fmt::join(log::formats(), ", ")));
    config.log_format = *format;
  }
  config.slow_request_ms =
      reader.take_count("slow_request_ms", slow_request_ms_max, 0).value_or(config.slow_request_ms);
  read_security(reader, path, config);
  read_control(reader, path, config);
  read_http(reader, path, config);
  read_exports(reader, path, config);
  for (const auto& [key, node] : table)
    config.places.by_key.emplace(key.str(), reader.place(node, key.str()));
  reader.finish(
      "listen, workers, memory, max_connections, busy_poll_us, wake_latency_us, log_level, "
      "log_format, slow_request_ms, user, sandbox, tls, http, control, export");
  return config;
}

}  // namespace server
