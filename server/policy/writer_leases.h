// Which clients write to an export at the moment: at most so many addresses, each with as many
// connections as it likes. The bound is whoever asks's, so that it can change while the same
// clients go on writing. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "engine/mutex.h"

namespace server {

class WriterLeases;

// The right to write, of one connection. Given back at its end, or by release().
class WriterLease {
 public:
  WriterLease() = default;
  WriterLease(WriterLease&& other) noexcept = default;
  WriterLease& operator=(WriterLease&& other) noexcept {
    if (this != &other) {
      release();
      leases_ = std::move(other.leases_);
      host_ = std::move(other.host_);
    }
    return *this;
  }
  ~WriterLease() { release(); }

  explicit operator bool() const noexcept { return leases_ != nullptr; }
  void release() noexcept;

 private:
  friend class WriterLeases;
  WriterLease(std::shared_ptr<WriterLeases> leases, std::string host)
      : leases_(std::move(leases)), host_(std::move(host)) {}

  std::shared_ptr<WriterLeases> leases_;
  std::string host_;
};

class WriterLeases : public std::enable_shared_from_this<WriterLeases> {
 public:
  // `host`: the client's address, without what tells its connections apart. False: `hosts_max`
  // others, or more, write already; 0: no bound.
  bool available_to(const std::string& host, std::uint32_t hosts_max) const;
  // Nothing where available_to() would have said no.
  WriterLease take(const std::string& host, std::uint32_t hosts_max);
  // The writers, for people: "10.0.0.5, 10.0.0.7".
  std::string holders() const;

 private:
  friend class WriterLease;
  bool available(const std::string& host, std::uint32_t hosts_max) const LOOPNBD_REQUIRES(mutex_);
  void give_back(const std::string& host) noexcept;

  mutable engine::Mutex mutex_;
  std::map<std::string, std::size_t> connections_by_host_ LOOPNBD_GUARDED_BY(mutex_);
};

}  // namespace server
