#include "test/bench/workload.h"

#include <charconv>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bench {

Workload::Workload(const WorkloadOptions& options, std::uint64_t seed, std::uint32_t index,
                   std::uint32_t count)
    : access_pattern_(options.access_pattern),
      fua_(options.fua),
      range_offset_(options.range_offset),
      random_(seed) {
  for (const auto& item : options.mix) {
    Kind kind{item};
    if (item.length > 0) kind.block_count = options.range_length / item.length;
    if (item.length > 0 && kind.block_count == 0) {
      throw std::invalid_argument(
          fmt::format("a request of {} bytes does not fit into a range of {} bytes", item.length,
                      options.range_length));
    }
    if (item.length > std::numeric_limits<std::uint32_t>::max()) {
      throw std::invalid_argument("a compact request cannot be longer than 4 GiB - 1");
    }
    kind.next_block = kind.block_count / count * index;
    weight_sum_ += item.weight;
    kinds_.push_back(kind);
  }
  if (weight_sum_ == 0)
    throw std::invalid_argument("the mix asks for nothing: all weights are zero");
}

Workload::Kind& Workload::choose() noexcept {
  if (kinds_.size() == 1) return kinds_.front();
  std::uint64_t ticket = random_.below(weight_sum_);
  for (auto& kind : kinds_) {
    if (ticket < kind.item.weight) return kind;
    ticket -= kind.item.weight;
  }
  return kinds_.back();
}

WorkloadRequest Workload::next() noexcept {
  Kind& kind = choose();
  WorkloadRequest request{.command = kind.item.command};
  if (kind.block_count == 0) return request;
  std::uint64_t block = 0;
  if (access_pattern_ == AccessPattern::random) {
    block = random_.below(kind.block_count);
  } else {
    block = kind.next_block;
    if (++kind.next_block == kind.block_count) kind.next_block = 0;
  }
  request.offset = range_offset_ + block * kind.item.length;
  request.length = static_cast<std::uint32_t>(kind.item.length);
  const bool changes =
      request.command != proto::Command::read && request.command != proto::Command::cache;
  if (fua_ && changes) request.flags = proto::command_flag::fua;
  return request;
}

proto::Command parse_command(std::string_view text) {
  static constexpr std::pair<std::string_view, proto::Command> commands[] = {
      {"read", proto::Command::read},   {"write", proto::Command::write},
      {"flush", proto::Command::flush}, {"trim", proto::Command::trim},
      {"cache", proto::Command::cache}, {"zero", proto::Command::write_zeroes},
  };
  for (const auto& [name, command] : commands) {
    if (name == text) return command;
  }
  throw std::invalid_argument(fmt::format(
      "'{}' is no operation; there are read, write, flush, trim, cache and zero", text));
}

std::uint64_t parse_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  unsigned shift = 0;
  if (unit == "k" || unit == "K") {
    shift = 10;
  } else if (unit == "m" || unit == "M") {
    shift = 20;
  } else if (unit == "g" || unit == "G") {
    shift = 30;
  } else if (!unit.empty()) {
    shift = 64;
  }
  if (error != std::errc{} || shift == 64 ||
      number > (std::numeric_limits<std::uint64_t>::max() >> shift)) {
    throw std::invalid_argument(fmt::format("'{}' is no size; write bytes, or 4k, 1M, 2G", text));
  }
  return number << shift;
}

std::vector<MixItem> parse_mix(std::string_view text) {
  std::vector<MixItem> mix;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(item.size() == text.size() ? item.size() : item.size() + 1);
    const auto first = item.find(':');
    const auto second = first == std::string_view::npos ? first : item.find(':', first + 1);
    if (second == std::string_view::npos) {
      throw std::invalid_argument(
          fmt::format("'{}' in the mix is not command:length:weight", item));
    }
    const std::uint64_t weight = parse_size(item.substr(second + 1));
    if (weight > std::numeric_limits<std::uint32_t>::max()) {
      throw std::invalid_argument(fmt::format("the weight in '{}' is too large", item));
    }
    const auto command = parse_command(item.substr(0, first));
    const std::uint64_t length = parse_size(item.substr(first + 1, second - first - 1));
    if ((length == 0) != (command == proto::Command::flush)) {
      throw std::invalid_argument(
          fmt::format("'{}': flush has the length 0, and only flush", item));
    }
    mix.push_back({command, length, static_cast<std::uint32_t>(weight)});
  }
  return mix;
}

}  // namespace bench
