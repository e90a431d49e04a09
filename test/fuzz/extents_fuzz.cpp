// fit_extents(): whatever the engine reports, what is left obeys the rules of BLOCK_STATUS and
// tells the truth.
#include <algorithm>
#include <limits>
#include <vector>

#include "proto/reply.h"
#include "test/fuzz/fuzz.h"
#include "test/support/bytes.h"

using fuzz::require;
using proto::HeaderStyle;
using proto::StatusExtent;

namespace {

constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();

std::uint64_t sum(std::uint64_t a, std::uint64_t b) { return b > largest - a ? largest : a + b; }

// The same extents, told another way: with neighbours merged and without empty ones.
std::vector<StatusExtent> merged(const std::vector<StatusExtent>& extents) {
  std::vector<StatusExtent> result;
  for (const auto& extent : extents) {
    if (extent.length == 0) continue;
    if (!result.empty() && result.back().flags == extent.flags) {
      result.back().length = sum(result.back().length, extent.length);
    } else {
      result.push_back(extent);
    }
  }
  return result;
}

struct Question {
  HeaderStyle style;
  std::uint64_t request_length;
  bool req_one;
};

void check_rules(std::span<const StatusExtent> fitted, const Question& question) {
  if (question.req_one) require(fitted.size() == 1, "REQ_ONE gives one extent");
  std::uint64_t described = 0;
  for (std::size_t i = 0; i < fitted.size(); ++i) {
    require(fitted[i].length > 0, "no extent is empty");
    require(described < question.request_length, "the first N-1 are less than the request");
    if (i > 0) require(fitted[i].flags != fitted[i - 1].flags, "neighbours differ");
    if (question.style != HeaderStyle::extended)
      require(fitted[i].length <= 0xffffffff, "lengths fit 32 bits");
    described = sum(described, fitted[i].length);
  }
  if (question.req_one) require(described <= question.request_length, "REQ_ONE stays within");
}

void check_truth(std::span<const StatusExtent> fitted, std::span<const StatusExtent> all) {
  require(fitted.size() <= all.size(), "nothing is made up");
  require(all.empty() == fitted.empty(), "there is an answer if there can be one");
  for (std::size_t i = 0; i < fitted.size(); ++i) {
    require(fitted[i].flags == all[i].flags, "flags stay where they were");
    require(fitted[i].length <= all[i].length, "no extent grows");
    const bool last = i + 1 == fitted.size();
    if (!last) require(fitted[i].length == all[i].length, "only the last extent is cut");
  }
}

// Decodes what encode_extents() made of them.
void check_encoding(std::span<const StatusExtent> fitted, HeaderStyle style) {
  const auto extent_size = proto::encoded_extent_size(style);
  test::Bytes bytes(fitted.size() * extent_size);
  proto::encode_extents(bytes, style, fitted);
  fuzz::Input in(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  const unsigned field_size = static_cast<unsigned>(extent_size / 2);
  for (const auto& extent : fitted) {
    require(in.number(field_size) == extent.length, "the length comes back");
    require(in.number(field_size) == extent.flags, "the flags come back");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input in(bytes, size);
  const auto choices = in.u8();
  Question question;
  question.style = (choices & 1) != 0 ? HeaderStyle::extended : HeaderStyle::structured;
  question.req_one = (choices & 2) != 0;
  question.request_length = std::max<std::uint64_t>(in.u64(), 1);
  // Compact requests are never longer than this.
  if (question.style != HeaderStyle::extended)
    question.request_length = std::min<std::uint64_t>(question.request_length, 0xffffffff);

  std::vector<StatusExtent> extents;
  while (!in.empty()) {
    const auto kind = in.u8();  // few flags, so that neighbours are alike now and then
    extents.push_back({in.number(1 + kind / 32), kind % 4U});
  }
  const auto all = merged(extents);
  const auto count =
      proto::fit_extents(extents, question.style, question.request_length, question.req_one);
  require(count <= extents.size(), "no more extents than there were");
  const auto fitted = std::span(extents).first(count);
  check_truth(fitted, all);
  if (!fitted.empty()) check_rules(fitted, question);
  check_encoding(fitted, question.style);
  return 0;
}
