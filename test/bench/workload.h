// Decides what one connection asks for next. Deterministic for a seed; used by one thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "proto/constants.h"
#include "test/bench/random.h"

namespace bench {

// One kind of request of a mix. Offsets are multiples of `length`.
struct MixItem {
  proto::Command command = proto::Command::read;
  std::uint64_t length = 0;  // bytes; 0 for flush
  std::uint32_t weight = 1;  // how often, relative to the other items
};

enum class AccessPattern : std::uint8_t { random, sequential };

struct WorkloadOptions {
  std::vector<MixItem> mix;
  AccessPattern access_pattern = AccessPattern::random;
  bool fua = false;  // on writes and trims
  std::uint64_t range_offset =
      0;  // bytes; requests stay inside [range_offset, range_offset + range_length)
  std::uint64_t range_length = 0;  // bytes
};

struct WorkloadRequest {
  proto::Command command = proto::Command::read;
  std::uint16_t flags = 0;
  std::uint64_t offset = 0;  // bytes
  std::uint32_t length = 0;  // bytes
};

class Workload {
 public:
  // Sequential: connection `index` of `count` starts at its share of the range and wraps at the
  // range's end. Throws std::invalid_argument when an item does not fit into the range.
  Workload(const WorkloadOptions& options, std::uint64_t seed, std::uint32_t index,
           std::uint32_t count);

  WorkloadRequest next() noexcept;

 private:
  struct Kind {
    MixItem item;
    std::uint64_t block_count = 0;  // how many of its requests fit into the range
    std::uint64_t next_block = 0;   // sequential
  };
  Kind& choose() noexcept;

  std::vector<Kind> kinds_;
  AccessPattern access_pattern_;
  bool fua_;
  std::uint64_t range_offset_;
  std::uint64_t weight_sum_ = 0;
  Random random_;
};

// "read", "write", "trim", "flush", "zero" or "cache"; throws std::invalid_argument for anything
// else.
proto::Command parse_command(std::string_view text);

// "write:1M:8,trim:1G:1,flush:0:1": command, length, weight. Throws std::invalid_argument.
std::vector<MixItem> parse_mix(std::string_view text);

// "4096", "4k", "1M", "2G": powers of 1024. Throws std::invalid_argument.
std::uint64_t parse_size(std::string_view text);

}  // namespace bench
