// A status with a value in every kind of place, for tests of what is made of it.
#pragma once

#include <algorithm>
#include <chrono>

#include "server/serving/status.h"

namespace test {

// The place of an error in error_kinds.
inline std::size_t place_of(proto::Error error) {
  return static_cast<std::size_t>(std::ranges::find(server::error_kinds, error) -
                                  server::error_kinds.begin());
}

inline server::ExportStatus example_export() {
  auto target = server::ExportStatus{};
  target.name = "disk";
  target.path = "/srv/\"disk\".img";
  target.mode = "direct";
  target.size = 4096;
  target.block_size = 512;
  target.limits.read_iops = 100;
  target.sync_error = -5;
  target.connections = 1;
  target.connections_begun = 4;
  target.tls_connections_begun = 2;
  auto& read = target.commands.emplace_back();
  read.answered = 2;
  read.bytes = 1024;
  read.errors[place_of(proto::Error::io)] = 1;
  read.device.buckets[1] = 2;
  read.device.sum = std::chrono::microseconds(3);
  auto& write = target.commands.emplace_back();
  write.command = proto::Command::write;
  return target;
}

inline server::ServerStatus example_status() {
  auto status = server::ServerStatus{};
  status.version = "1.2.3";
  status.uptime = std::chrono::milliseconds(4500);
  status.start_time_seconds = 1000;
  status.listening = true;
  status.listen = {"127.0.0.1:10809"};
  status.connections_max = 10;
  status.exports.push_back(example_export());
  auto& worker = status.workers.emplace_back();
  worker.responding = true;
  worker.connections = 1;
  worker.turns = 17;
  worker.resource_waits = 3;
  worker.memory_in_use = 30;
  worker.memory_budget = 100;
  auto& client = worker.clients.emplace_back();
  client.id = 7;
  client.peer = "127.0.0.1:50000";
  client.export_name = "disk";
  client.age = std::chrono::milliseconds(250);
  client.requests = 2;
  client.latency_sum = std::chrono::nanoseconds(1500);
  return status;
}

}  // namespace test
