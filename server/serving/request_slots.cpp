#include "server/serving/request_slots.h"

namespace server {

bool RequestSlots::invariants() const noexcept {
  if (slots_held_ == 0 && bytes_held_ > 0) return false;
  return requests_in_flight_ <= slots_held_ && slots_held_ <= host_.requests().taken() &&
         bytes_held_ <= host_.buffers().in_use();
}

}  // namespace server
