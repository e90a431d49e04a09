#include "server/control/client/ctl_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <map>
#include <vector>

#include "proto/text.h"
#include "server/base/text.h"

namespace server {
namespace {

namespace json = boost::json;

std::string text(const json::object& object, std::string_view key) {
  return std::string(object.at({key.data(), key.size()}).as_string());
}

double number(const json::object& object, std::string_view key) {
  return object.at({key.data(), key.size()}).to_number<double>();
}

bool flag(const json::object& object, std::string_view key) {
  return object.at({key.data(), key.size()}).as_bool();
}

std::string modes(const json::object& entry) {
  auto words = text(entry, "mode") + " I/O";
  if (flag(entry, "read_only")) words += ", read-only";
  if (flag(entry, "paused")) words += ", PAUSED";
  if (flag(entry, "sync_failed")) words += ", A SYNC FAILED";
  if (flag(entry, "file_replaced")) words += ", ITS FILE WAS REPLACED: reload";
  if (const auto slow = number(entry, "requests_slow"); slow > 0)
    words += ", " + plural(static_cast<std::uint64_t>(slow), "request") + " UNDER WAY FOR TOO LONG";
  return words;
}

// A peer's name comes from the kernel, an export's from the operator: neither may move the cursor,
// nor the columns.
std::string fitting(const std::string& name, std::size_t width) {
  return proto::printable(name, name.size() <= width ? width : width - 3);
}

// Load of an export or client between two statuses.
struct Load {
  std::string name;
  std::string more;
  double reads = 0;  // a second; of a client, all requests
  double writes = 0;
  double bytes_read = 0;  // a second
  double bytes_written = 0;
  double latency_ms = 0;  // mean
  double in_flight = 0;
};

double difference(const json::object* before, const json::object& after, std::string_view key) {
  const auto then = before == nullptr ? 0 : number(*before, key);
  return std::max(0.0, number(after, key) - then);
}

const json::object* find_command(const json::object* entry, const std::string& name) {
  if (entry == nullptr) return nullptr;
  for (const auto& command : entry->at("commands").as_array())
    if (text(command.as_object(), "command") == name) return &command.as_object();
  return nullptr;
}

double latency_sum_us(const json::object* command) {
  auto sum = 0.0;
  for (const auto* const stage : {"queue", "device", "send"})
    if (command != nullptr) sum += number(command->at(stage).as_object(), "sum_us");
  return sum;
}

Load load_of_export(const json::object* before, const json::object& after, double seconds) {
  auto load = Load{.name = text(after, "name"), .more = modes(after)};
  auto answered = 0.0;
  auto latency = 0.0;
  for (const auto& entry : after.at("commands").as_array()) {
    const auto& now = entry.as_object();
    const auto name = text(now, "command");
    const auto* const then = find_command(before, name);
    const auto count = difference(then, now, "requests");
    answered += count;
    latency += std::max(0.0, latency_sum_us(&now) - latency_sum_us(then));
    load.in_flight += number(now, "in_flight");
    if (name == "READ") {
      load.reads = count / seconds;
      load.bytes_read = difference(then, now, "bytes") / seconds;
    } else if (name == "WRITE") {
      load.writes = count / seconds;
      load.bytes_written = difference(then, now, "bytes") / seconds;
    }
  }
  load.latency_ms = answered > 0 ? latency / answered / 1000 : 0;
  return load;
}

Load load_of_client(const json::object* before, const json::object& after, double seconds) {
  auto load = Load{.name = fmt::format("{} {}", number(after, "id"), text(after, "peer")),
                   .more = text(after, "export")};
  const auto answered = difference(before, after, "requests");
  load.reads = answered / seconds;
  load.bytes_read = difference(before, after, "bytes_read") / seconds;
  load.bytes_written = difference(before, after, "bytes_written") / seconds;
  load.latency_ms =
      answered > 0 ? difference(before, after, "latency_sum_us") / answered / 1000 : 0;
  load.in_flight = number(after, "in_flight");
  return load;
}

// The entries of a list in both statuses, those with the most load first.
template <typename LoadOf>
std::vector<Load> loads(const json::object& before, const json::object& after, const char* list,
                        const char* key, double seconds, LoadOf load_of) {
  auto earlier = std::map<std::string, const json::object*>{};
  for (const auto& entry : before.at(list).as_array())
    earlier.emplace(fmt::format("{}", entry.at(key).is_string()
                                          ? text(entry.as_object(), key)
                                          : std::to_string(number(entry.as_object(), key))),
                    &entry.as_object());
  auto found = std::vector<Load>{};
  for (const auto& entry : after.at(list).as_array()) {
    const auto& object = entry.as_object();
    const auto name =
        object.at(key).is_string() ? text(object, key) : std::to_string(number(object, key));
    const auto then = earlier.find(name);
    found.push_back(load_of(then == earlier.end() ? nullptr : then->second, object, seconds));
  }
  std::ranges::stable_sort(found, std::ranges::greater{}, [](const Load& load) {
    return load.bytes_read + load.bytes_written + load.reads + load.writes;
  });
  return found;
}

}  // namespace

std::string format_status(const json::object& status) {
  const auto& workers = status.at("workers").as_array();
  const auto respond = std::ranges::all_of(
      workers, [](const auto& worker) { return flag(worker.as_object(), "responding"); });
  auto lines =
      fmt::format("loopnbd {}{}, up {:.0f} s, {}{}, {} of {} in use\n", text(status, "version"),
                  flag(status, "draining") ? ", draining" : "", number(status, "uptime_ms") / 1000,
                  plural(workers.size(), "worker"), respond ? "" : " (not all respond)",
                  format_size(number(status, "memory_in_use_bytes")),
                  format_size(number(status, "memory_limit_bytes")));
  for (const auto& address : status.at("listen").as_array())
    lines += fmt::format("listening on {}\n", std::string(address.as_string()));
  for (const auto& entry : status.at("exports").as_array()) {
    const auto& object = entry.as_object();
    lines += fmt::format(
        "export \"{}\": {}, {}, {}, {}\n", fitting(text(object, "name"), 200), text(object, "path"),
        format_size(number(object, "size_bytes")), modes(object),
        plural(static_cast<std::uint64_t>(number(object, "connections")), "connection"));
  }
  return lines;
}

std::string format_connections(const json::object& status) {
  auto lines = fmt::format("{:>6}  {:<28} {:<16} {:>8} {:>10} {:>10} {:>10} {:>6}\n", "number",
                           "client", "export", "age", "requests", "read", "written", "flight");
  for (const auto& entry : status.at("connections").as_array()) {
    const auto& client = entry.as_object();
    lines += fmt::format("{:>6}  {:<28} {:<16} {:>6.0f} s {:>10} {:>10} {:>10} {:>6}\n",
                         number(client, "id"), fitting(text(client, "peer"), 28),
                         fitting(text(client, "export"), 16), number(client, "age_ms") / 1000,
                         number(client, "requests"), format_size(number(client, "bytes_read")),
                         format_size(number(client, "bytes_written")), number(client, "in_flight"));
  }
  return lines;
}

std::string format_top(const json::object& before, const json::object& after, double seconds,
                       std::size_t lines_max) {
  const auto exports = loads(before, after, "exports", "name", seconds, load_of_export);
  const auto clients = loads(before, after, "connections", "id", seconds, load_of_client);
  auto lines = std::vector<std::string>{};
  lines.push_back(fmt::format("loopnbd {}  up {:.0f} s  {}  {} of {} in use",
                              text(after, "version"), number(after, "uptime_ms") / 1000,
                              plural(clients.size(), "connection"),
                              format_size(number(after, "memory_in_use_bytes")),
                              format_size(number(after, "memory_limit_bytes"))));
  lines.push_back(fmt::format("{:<24} {:>9} {:>9} {:>12} {:>12} {:>9} {:>6}  {}", "export",
                              "reads/s", "writes/s", "read/s", "written/s", "latency", "flight",
                              "how"));
  for (const auto& load : exports)
    lines.push_back(fmt::format("{:<24} {:>9.0f} {:>9.0f} {:>12} {:>12} {:>6.2f} ms {:>6}  {}",
                                fitting(load.name, 24), load.reads, load.writes,
                                format_size(load.bytes_read), format_size(load.bytes_written),
                                load.latency_ms, load.in_flight, load.more));
  lines.push_back(fmt::format("{:<34} {:>9} {:>12} {:>12} {:>9} {:>6}  {}", "client", "requests/s",
                              "read/s", "written/s", "latency", "flight", "export"));
  for (const auto& load : clients)
    lines.push_back(fmt::format("{:<34} {:>10.0f} {:>12} {:>12} {:>6.2f} ms {:>6}  {}",
                                fitting(load.name, 34), load.reads, format_size(load.bytes_read),
                                format_size(load.bytes_written), load.latency_ms, load.in_flight,
                                fitting(load.more, 24)));
  if (lines.size() > lines_max) lines.resize(lines_max);
  return fmt::format("{}\n", fmt::join(lines, "\n"));
}

}  // namespace server
