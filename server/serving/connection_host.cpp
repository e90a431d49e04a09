#include "server/serving/connection_host.h"

#include <algorithm>

namespace server {

ConnectionHost::ConnectionHost(const Bounds& bounds)
    : bounds_(bounds),
      buffers_(bounds.memory_per_worker, bounds.memory_resident),
      requests_(std::max<std::size_t>(1024, bounds.memory_per_worker / engine::buffer_size_min),
                bounds.memory_resident),
      io_context_(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO) {}

}  // namespace server
