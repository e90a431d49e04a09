// The part of Connection that says what it has done: for the counters, for the log, for people.
#include <chrono>
#include <utility>

#include "proto/names.h"
#include "server/base/log.h"
#include "server/export/export.h"
#include "server/serving/connection.h"
#include "server/serving/connection_host.h"

namespace server {
namespace {

double milliseconds(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

// The last byte of its reply has been sent.
void Connection::take_account(Request& whole) noexcept {
  auto& metrics = queue_.metrics.of(whole.header.command);
  const auto now = host_.now();
  metrics.queue.add(whole.submitted - whole.received);
  metrics.device.add(whole.completed_at - whole.submitted);
  metrics.send.add(now - whole.completed_at);
  ++requests_answered_;
  latency_sum_ += now - whole.received;
  if (now - whole.received >= host_.bounds().slow_request) log_slow(whole);
  if (whole.error != proto::Error::none) return metrics.add_error(whole.error);
  metrics.bytes.add(whole.header.length);
  if (whole.header.command == proto::Command::read) bytes_read_ += whole.header.length;
  if (whole.header.command == proto::Command::write) bytes_written_ += whole.header.length;
}

void Connection::log_slow(const Request& whole) const noexcept {
  const auto silenced = target_->slow_log().admit();
  if (!silenced) return;
  auto fields = log_fields(whole);
  fields.request->queue = whole.submitted - whole.received;
  fields.request->device = whole.completed_at - whole.submitted;
  fields.request->send = host_.now() - whole.completed_at;
  log::warn(fields,
            "{}: slow: {} of {} bytes at {} of \"{}\" took {:.1f} ms: queue {:.1f}, device {:.1f}, "
            "send {:.1f}{}",
            fields.client, fields.request->command, whole.header.length, whole.header.offset,
            target_->name(), milliseconds(host_.now() - whole.received),
            milliseconds(*fields.request->queue), milliseconds(*fields.request->device),
            milliseconds(*fields.request->send), log::silenced_text(*silenced));
}

void Connection::report_slow(Request& whole) const noexcept {
  ++queue_.slow_count;
  if (std::exchange(whole.reported_slow, true)) return;
  const auto silenced = target_->under_way_log().admit();
  if (!silenced) return;
  auto fields = log_fields(whole);
  fields.request->stage = stage_of(whole);
  log::warn(fields,
            "{}: slow, and not done: {} of {} bytes at {} of \"{}\" is under way for {:.1f} ms, "
            "now in {}{}",
            fields.client, fields.request->command, whole.header.length, whole.header.offset,
            target_->name(), milliseconds(host_.now() - whole.received), fields.request->stage,
            log::silenced_text(*silenced));
}

std::string_view Connection::stage_of(const Request& whole) const noexcept {
  if (whole.pieces_in_flight > 0) return queue_.held ? "pause" : "device";
  // A client that does not read keeps the buffers that the rest of its READ would need.
  if (current_ == &whole && !(phase_ == Phase::reading && waiting_writable_)) return "queue";
  return "send";
}

log::Fields Connection::log_fields() const noexcept {
  return {.client = transport_->peer(), .export_name = target_->name()};
}

log::Fields Connection::log_fields(const Request& whole) const noexcept {
  auto fields = log_fields();
  fields.request = {.command = proto::name(whole.header.command),
                    .offset = whole.header.offset,
                    .length = whole.header.length};
  return fields;
}

ConnectionStatus Connection::status() const {
  auto status = ConnectionStatus{};
  status.id = arrival_;
  status.peer = transport_ == nullptr ? "" : transport_->peer();
  status.protection = transport_ == nullptr ? "" : transport_->protection();
  status.export_name = target_->name();
  status.read_only = (rules_.transmission_flags & proto::transmission_flag::read_only) != 0;
  status.age = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since_);
  status.requests = requests_answered_;
  status.bytes_read = bytes_read_;
  status.bytes_written = bytes_written_;
  status.requests_in_flight = requests_in_flight_;
  status.memory = data_held_;
  status.latency_sum = latency_sum_;
  return status;
}

}  // namespace server
