#include "server/export/export_queue.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "test/double/memory_device.h"

using Phase = server::ExportQueue::Phase;

namespace {

struct Operation final : engine::Io {
  explicit Operation(std::vector<int>& all, int its_number) : done(all), number(its_number) {
    operation = engine::Operation::flush;
  }
  void complete(std::int64_t) noexcept override { done.push_back(number); }

  std::vector<int>& done;
  const int number;
};

std::shared_ptr<engine::BlockDevice> make_device(std::uint64_t size) {
  auto options = engine::MemoryDeviceOptions{};
  options.size = size;
  return std::make_shared<engine::MemoryDevice>(options);
}

struct Served {
  server::asio::io_context io_context{1};
  std::shared_ptr<server::Export> target = std::make_shared<server::Export>(
      server::ExportConfig{}, make_device(1U << 20), server::Bounds{});
  server::ExportQueue queue{io_context, server::make_queue(target, 16), 0};
  std::vector<int> done;
};

}  // namespace

TEST_CASE("a queue is active from the first submission to the last completion") {
  auto served = Served();
  auto& queue = served.queue;
  auto first = Operation(served.done, 1);
  auto second = Operation(served.done, 2);
  CHECK(queue.quiet());
  CHECK(queue.submit(first));
  CHECK_FALSE(queue.submit(second));
  CHECK(queue.unflushed());
  CHECK(queue.update_active());
  queue.flush();
  CHECK_FALSE(queue.unflushed());
  while (queue.harvest() == 0) {
  }
  CHECK_FALSE(queue.update_active());
  CHECK(queue.quiet());
  CHECK(served.done == std::vector{1, 2});
}

TEST_CASE("a held queue keeps what is submitted, in its order, and stays quiet") {
  auto served = Served();
  auto& queue = served.queue;
  auto first = Operation(served.done, 1);
  auto second = Operation(served.done, 2);
  queue.hold();
  CHECK_FALSE(queue.submit(first));
  CHECK_FALSE(queue.submit(second));
  CHECK(queue.quiet());
  CHECK(queue.in_flight() == 0);
  auto held = queue.resume();
  CHECK_FALSE(queue.held());
  CHECK(held.pop_front() == &first);
  CHECK(held.pop_front() == &second);
  CHECK(held.empty());
}

TEST_CASE("a held queue that is quiet changes its device") {
  auto served = Served();
  const auto old = served.target->device();
  const auto device = make_device(4096);
  auto loose = server::LooseQueue{served.target, device, device->make_queue(16)};
  served.queue.hold();
  served.queue.exchange(loose);
  CHECK(served.queue.device() == device);
  CHECK(loose.device == old);
  CHECK(served.queue.resume().empty());
}

TEST_CASE("a queue is retired, closed, and taken when its last connection has gone") {
  auto served = Served();
  auto& queue = served.queue;
  queue.add_connection();
  CHECK(queue.phase() == Phase::open);
  queue.retire();
  CHECK(queue.phase() == Phase::retired);
  queue.close();
  CHECK(queue.phase() == Phase::closing);
  queue.remove_connection();
  const auto loose = queue.take();
  CHECK(loose.target == served.target);
  CHECK(loose.queue != nullptr);
}

TEST_CASE("slow requests are counted until they are taken") {
  auto served = Served();
  served.queue.count_slow_request();
  served.queue.count_slow_request();
  CHECK(served.queue.take_slow_count() == 2);
  CHECK(served.queue.take_slow_count() == 0);
}
