#include "server/serving/request_slots.h"

#include <catch2/catch.hpp>
#include <vector>

#include "test/server/serving/test_host.h"

using proto::Command;
using server::Need;
using server::Request;
using server::RequestSlots;

TEST_CASE("a connection has no more slots than its bound, and says that replies are missing") {
  auto host = test::TestHost();
  auto metrics = server::ExportMetrics();
  auto slots = RequestSlots(host.no_connection(), host, metrics);
  auto held = std::vector<Request*>{};
  while (auto* const request = slots.take_request({.command = Command::read}))
    held.push_back(request);
  CHECK(held.size() == host.bounds().requests_max_per_connection);
  CHECK(slots.need() == Need::replies);
  CHECK(slots.take_piece(*held.front()) == nullptr);
  CHECK(slots.requests_in_flight() == held.size());
  CHECK(metrics.of(Command::read).begun.value() == held.size());
  for (auto* const request : held) slots.give_back(*request->own);
  CHECK(slots.empty());
  CHECK(metrics.of(Command::read).ended.value() == held.size());
}

TEST_CASE("the bytes of a connection are those of the buffers of its pieces") {
  auto host = test::TestHost();
  auto metrics = server::ExportMetrics();
  auto slots = RequestSlots(host.no_connection(), host, metrics);
  auto& request = *slots.take_request({.command = Command::write});
  auto& further = *slots.take_piece(request);
  slots.attach(further, slots.take_buffer(100'000, 4096));
  CHECK(slots.bytes_held() >= 100'000);
  CHECK(slots.bytes_held() == further.data.size());
  CHECK(slots.requests_in_flight() == 1);
  slots.give_back(further);
  CHECK(slots.bytes_held() == 0);
  CHECK(host.buffers().in_use() == 0);
  CHECK_FALSE(slots.empty());
  slots.give_back(*request.own);
}

TEST_CASE("without memory a connection needs resources") {
  auto host = test::TestHost();
  auto metrics = server::ExportMetrics();
  auto slots = RequestSlots(host.no_connection(), host, metrics);
  auto taken = std::vector<engine::BufferPool::Buffer>{};
  const auto size = engine::buffer_size_max;
  while (auto buffer = host.buffers().take(size, size, 0)) taken.push_back(std::move(buffer));
  CHECK_FALSE(slots.take_buffer(size, size));
  CHECK(slots.need() == Need::resources);
}
