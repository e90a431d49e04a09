// An export, which clients ask for by name: a device and how it is offered. Immutable but for what
// is counted, shared by all workers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/block_device.h"
#include "engine/mutex.h"
#include "proto/negotiation.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/bounds.h"
#include "server/config/config.h"
#include "server/policy/rate_limiter.h"
#include "server/policy/writer_leases.h"

namespace server {

class Export {
 public:
  // `replaces`: exports whose clients must have gone before this one's are served, because both
  // work on one file in different ways.
  Export(ExportConfig config, std::shared_ptr<engine::BlockDevice> device, const Bounds& bounds,
         std::vector<std::weak_ptr<const Export>> replaces = {});

  const std::string& name() const noexcept { return config_.name; }
  const ExportConfig& config() const noexcept { return config_; }
  // The device that serves it at this moment. Any thread.
  std::shared_ptr<engine::BlockDevice> device() const;
  std::string path() const;
  // Another device in its place; only while the workers hold back what is submitted to it.
  void set_device(std::shared_ptr<engine::BlockDevice> device);
  void set_path(std::string path);

  // Whether its path leads to another file by now, as somebody found who has looked: between
  // begin_look(), which says no while somebody else looks, and end_look(). Any thread.
  bool replaced() const noexcept { return replaced_.load(std::memory_order_relaxed); }
  bool begin_look() noexcept { return !looking_.exchange(true, std::memory_order_relaxed); }
  void end_look(bool replaced) noexcept {
    replaced_.store(replaced, std::memory_order_relaxed);
    looking_.store(false, std::memory_order_relaxed);
  }

  ExportLimiter& limiter() const noexcept { return *limiter_; }

  const std::vector<std::weak_ptr<const Export>>& replaces() const noexcept { return replaces_; }
  bool replaces(const Export& other) const noexcept;

  // For the negotiation with a client that may write or not, with the size of this moment.
  proto::ExportDescription describe(bool writable = true) const;

  // Before anybody uses it: both have the same device from now on, whatever is put in its place,
  // and the clients of `other` count here, too, as writers and for the limits.
  void share_with(const Export& other);
  // Before anybody uses it: what is counted from now on is added to what `other` has counted.
  void count_on(const Export& other) { metrics_ = other.metrics_; }
  bool shares_device(const Export& other) const noexcept { return writers_ == other.writers_; }

  // As WriterLeases, within `writers_max` of the configuration.
  bool may_take_writer(const std::string& host) const;
  WriterLease take_writer(const std::string& host);
  std::string writers() const { return writers_->holders(); }

  // Of the clients that may write, the one that has come last among those that are served, by its
  // ticket. Any thread.
  void note_writer(std::uint64_t ticket) noexcept;
  std::uint64_t latest_writer() const noexcept { return *latest_writer_; }

  // Lets some of the messages about failing requests through.
  log::RateLimit& error_log() noexcept { return error_log_; }
  // And about slow ones.
  log::RateLimit& slow_log() noexcept { return slow_log_; }
  // And about those that are under way for too long.
  log::RateLimit& under_way_log() noexcept { return under_way_log_; }

  // The counts of each worker; written by that worker alone.
  std::span<ExportMetrics> metrics() noexcept { return *metrics_; }
  std::span<const ExportMetrics> metrics() const noexcept { return *metrics_; }

 private:
  const ExportConfig config_;
  mutable engine::Mutex mutex_;
  std::shared_ptr<engine::BlockDevice> device_ LOOPNBD_GUARDED_BY(mutex_);
  std::string path_ LOOPNBD_GUARDED_BY(mutex_);
  const std::uint32_t payload_length_max_;  // bytes
  const std::vector<std::weak_ptr<const Export>> replaces_;
  std::shared_ptr<ExportLimiter> limiter_;
  std::shared_ptr<WriterLeases> writers_;
  std::atomic<bool> replaced_{false};
  std::atomic<bool> looking_{false};
  std::shared_ptr<std::atomic<std::uint64_t>> latest_writer_;
  log::RateLimit error_log_;
  log::RateLimit slow_log_;
  log::RateLimit under_way_log_;
  std::shared_ptr<std::vector<ExportMetrics>> metrics_;  // never grows
};

// Immutable: a change of the configuration makes another table.
class ExportTable {
 public:
  explicit ExportTable(std::vector<std::shared_ptr<Export>> exports)
      : exports_(std::move(exports)) {}

  const std::vector<std::shared_ptr<Export>>& all() const noexcept { return exports_; }
  // The empty name finds the first export. nullptr: there is none.
  std::shared_ptr<Export> find(std::string_view name) const;

 private:
  std::vector<std::shared_ptr<Export>> exports_;
};

}  // namespace server
