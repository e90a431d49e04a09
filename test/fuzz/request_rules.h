// The rules of a connection, carved out of the input of a fuzz target of requests.
#pragma once

#include "proto/request.h"
#include "test/fuzz/fuzz.h"

namespace fuzz {

inline proto::RequestRules carve_request_rules(Input& in) {
  auto rules = proto::RequestRules{};
  rules.header_style = static_cast<proto::HeaderStyle>(in.u8() % 3);
  rules.transmission_flags = in.u16();
  rules.export_size = in.u64();
  rules.payload_length_max = in.u32();
  rules.block_status_selected = in.u8() % 2 != 0;
  return rules;
}

}  // namespace fuzz
