#include "server/serving/account.h"

#include <cstring>
#include <utility>

#include "proto/names.h"

namespace server {
namespace {

double milliseconds(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

void Account::answered(const Request& request, Clock::time_point now) noexcept {
  auto& metrics = queue_.metrics().of(request.header.command);
  metrics.queue.add(request.submitted - request.received);
  metrics.device.add(request.completed_at - request.submitted);
  metrics.send.add(now - request.completed_at);
  ++totals_.requests;
  totals_.latency += now - request.received;
  if (now - request.received >= slow_) log_slow(request, now);
  if (request.error != proto::Error::none) return metrics.add_error(request.error);
  const auto length = request.header.length;
  metrics.bytes.add(length);
  if (request.header.command == proto::Command::read) totals_.bytes_read += length;
  if (request.header.command == proto::Command::write) totals_.bytes_written += length;
}

void Account::failed(const Request& request, int error_number, proto::Error error) noexcept {
  const auto& header = request.header;
  const auto syncs =
      header.command == proto::Command::flush || request.has_flag(proto::command_flag::fua);
  if (syncs && queue_.device()->sync_error() != 0) queue_.metrics().sync_failures.add(1);
  if (error == proto::Error::not_supported) return;  // the quick "no" that FAST_ZERO asks for
  if (const auto silenced = target_.error_log().admit())
    log::error(fields(request), "export \"{}\": {} of {} bytes at {} failed: {}{}", target_.name(),
               proto::name(header.command), header.length, header.offset,
               std::strerror(error_number), log::silenced_text(*silenced));
}

void Account::log_slow(const Request& request, Clock::time_point now) const noexcept {
  const auto silenced = target_.slow_log().admit();
  if (!silenced) return;
  auto said = fields(request);
  said.request->queue = request.submitted - request.received;
  said.request->device = request.completed_at - request.submitted;
  said.request->send = now - request.completed_at;
  log::warn(said,
            "{}: slow: {} of {} bytes at {} of \"{}\" took {:.1f} ms: queue {:.1f}, device {:.1f}, "
            "send {:.1f}{}",
            said.client, said.request->command, request.header.length, request.header.offset,
            target_.name(), milliseconds(now - request.received),
            milliseconds(*said.request->queue), milliseconds(*said.request->device),
            milliseconds(*said.request->send), log::silenced_text(*silenced));
}

void Account::report_slow(Request& request, std::string_view stage,
                          Clock::time_point now) noexcept {
  queue_.count_slow_request();
  if (std::exchange(request.reported_slow, true)) return;
  const auto silenced = target_.under_way_log().admit();
  if (!silenced) return;
  auto said = fields(request);
  said.request->stage = stage;
  log::warn(said,
            "{}: slow, and not done: {} of {} bytes at {} of \"{}\" is under way for {:.1f} ms, "
            "now in {}{}",
            said.client, said.request->command, request.header.length, request.header.offset,
            target_.name(), milliseconds(now - request.received), said.request->stage,
            log::silenced_text(*silenced));
}

log::Fields Account::fields() const noexcept {
  return {.client = peer_, .export_name = target_.name()};
}

log::Fields Account::fields(const Request& request) const noexcept {
  auto said = fields();
  said.request = {.command = proto::name(request.header.command),
                  .offset = request.header.offset,
                  .length = request.header.length};
  return said;
}

}  // namespace server
