#include "server/export/export.h"

#include <algorithm>
#include <utility>
#include "server/export/status_contexts.h"

namespace server {

Export::Export(ExportConfig config, std::shared_ptr<engine::BlockDevice> device,
               const Bounds& bounds, std::vector<std::weak_ptr<const Export>> replaces)
    : config_(std::move(config)),
      device_(std::move(device)),
      path_(config_.path),
      payload_length_max_(bounds.payload_length_max),
      replaces_(std::move(replaces)),
      limiter_(std::make_shared<ExportLimiter>(config_.limits, config_.client_limits)),
      writers_(std::make_shared<WriterLeases>()),
      latest_writer_(std::make_shared<std::atomic<std::uint64_t>>(0)),
      metrics_(std::make_shared<std::vector<ExportMetrics>>(bounds.workers)) {}

std::shared_ptr<engine::BlockDevice> Export::device() const {
  const engine::MutexLock lock(mutex_);
  return device_;
}

std::string Export::path() const {
  const engine::MutexLock lock(mutex_);
  return path_;
}

void Export::set_device(std::shared_ptr<engine::BlockDevice> device) {
  const engine::MutexLock lock(mutex_);
  device_ = std::move(device);
}

void Export::set_path(std::string path) {
  const engine::MutexLock lock(mutex_);
  path_ = std::move(path);
}

bool Export::replaces(const Export& other) const noexcept {
  return std::ranges::any_of(replaces_,
                             [&](const auto& entry) { return entry.lock().get() == &other; });
}

void Export::share_with(const Export& other) {
  set_device(other.device());
  set_path(other.path());
  writers_ = other.writers_;
  latest_writer_ = other.latest_writer_;
  limiter_ = other.limiter_;
}

bool Export::may_take_writer(const std::string& host) const {
  return writers_->available_to(host, config_.writers_max);
}

WriterLease Export::take_writer(const std::string& host) {
  return writers_->take(host, config_.writers_max);
}

void Export::note_writer(std::uint64_t ticket) noexcept {
  auto latest = latest_writer_->load();
  while (latest < ticket && !latest_writer_->compare_exchange_weak(latest, ticket)) continue;
}

proto::ExportDescription Export::describe(bool writable) const {
  namespace flag = proto::transmission_flag;
  const auto serving = device();
  const auto& geometry = serving->geometry();
  // Every connection works on the one device, and nothing is cached above it: hence CAN_MULTI_CONN.
  auto flags =
      flag::has_flags | flag::send_flush | flag::send_fua | flag::can_multi_conn | flag::send_cache;
  if (geometry.rotational) flags |= flag::rotational;
  if (geometry.read_only || !writable) {
    flags |= flag::read_only;
  } else {
    flags |= flag::send_write_zeroes | flag::send_fast_zero;
    if (geometry.can_discard) flags |= flag::send_trim;
  }
  auto description = proto::ExportDescription{};
  description.name = config_.name;
  description.description = config_.description;
  description.size = serving->size();
  description.transmission_flags = static_cast<std::uint16_t>(flags);
  // The engine serves every alignment exactly, so no client is held to one.
  description.block_size_minimum = 1;
  description.block_size_preferred = std::max(geometry.preferred_size, 4096U);
  description.payload_length_max = payload_length_max_;
  description.tls_required = config_.tls_required;
  for (const auto& offered : status_contexts()) description.contexts.push_back(offered.context);
  return description;
}

std::shared_ptr<Export> ExportTable::find(std::string_view name) const {
  if (name.empty()) return exports_.empty() ? nullptr : exports_.front();
  const auto found = std::ranges::find(
      exports_, name, [](const auto& entry) -> std::string_view { return entry->name(); });
  return found == exports_.end() ? nullptr : *found;
}

}  // namespace server
