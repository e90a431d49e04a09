#include "server/serving/request_rules.h"

namespace server {

proto::RequestRules rules_of(const proto::Negotiated& negotiated) {
  auto rules = proto::RequestRules{};
  rules.export_size = negotiated.export_description.size;
  rules.transmission_flags = negotiated.export_description.transmission_flags;
  rules.header_style = negotiated.header_style;
  rules.payload_length_max = negotiated.export_description.payload_length_max;
  rules.block_status_selected = !negotiated.contexts.empty();
  return rules;
}

}  // namespace server
