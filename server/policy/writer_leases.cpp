#include "server/policy/writer_leases.h"

namespace server {

void WriterLease::release() noexcept {
  if (leases_ == nullptr) return;
  leases_->give_back(host_);
  leases_.reset();
}

bool WriterLeases::available_to(const std::string& host, std::uint32_t hosts_max) const {
  const engine::MutexLock lock(mutex_);
  return available(host, hosts_max);
}

WriterLease WriterLeases::take(const std::string& host, std::uint32_t hosts_max) {
  const engine::MutexLock lock(mutex_);
  if (!available(host, hosts_max)) return {};
  ++connections_by_host_[host];
  return {shared_from_this(), host};
}

std::string WriterLeases::holders() const {
  const engine::MutexLock lock(mutex_);
  auto text = std::string{};
  for (const auto& [host, count] : connections_by_host_) {
    if (!text.empty()) text += ", ";
    text += host;
  }
  return text;
}

bool WriterLeases::available(const std::string& host, std::uint32_t hosts_max) const {
  return hosts_max == 0 || connections_by_host_.size() < hosts_max ||
         connections_by_host_.contains(host);
}

void WriterLeases::give_back(const std::string& host) noexcept {
  const engine::MutexLock lock(mutex_);
  const auto found = connections_by_host_.find(host);
  if (found != connections_by_host_.end() && --found->second == 0)
    connections_by_host_.erase(found);
}

}  // namespace server
