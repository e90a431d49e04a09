#include "server/serving/account.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>

#include "test/double/faulty_device.h"
#include "test/double/memory_device.h"
#include "test/support/log_lines.h"

using namespace std::chrono_literals;
using proto::Command;
using proto::Error;
using server::Request;

namespace {

constexpr auto slow = 10ms;

// An account of one connection, and requests that took 1 ms in the queue, 2 ms on the device and as
// long as the test says to send.
struct Accounted {
  static std::shared_ptr<engine::BlockDevice> make_device(engine::Faults& faults) {
    auto options = engine::MemoryDeviceOptions{};
    options.size = 1U << 20;
    return std::make_shared<engine::FaultyDevice>(std::make_shared<engine::MemoryDevice>(options),
                                                  faults);
  }
  static server::ExportConfig config() {
    auto config = server::ExportConfig{};
    config.name = "disk";
    return config;
  }

  Request request(Command command, std::uint16_t flags = 0) const {
    auto made = Request{};
    made.header = {.flags = flags, .command = command, .offset = 512, .length = 4096};
    made.received = begin;
    made.submitted = begin + 1ms;
    made.completed_at = begin + 3ms;
    return made;
  }
  const server::CommandMetrics& metrics(Command command) const {
    return queue.metrics().of(command);
  }

  const server::Clock::time_point begin = server::Clock::now();
  test::LogLines log;
  server::asio::io_context io_context{1};
  engine::Faults faults;
  std::shared_ptr<server::Export> target =
      std::make_shared<server::Export>(config(), make_device(faults), server::Bounds{});
  server::ExportQueue queue{io_context, server::make_queue(target, 16), 0};
  server::Account account{queue, *target, "a client", slow};
};

}  // namespace

TEST_CASE("an answered request counts its bytes and where its time went") {
  auto accounted = Accounted();
  for (const auto command : {Command::read, Command::write, Command::trim}) {
    accounted.account.answered(accounted.request(command), accounted.begin + 7ms);
    const auto& metrics = accounted.metrics(command);
    CHECK(metrics.bytes.value() == 4096);
    CHECK(metrics.queue.sum() == 1ms);
    CHECK(metrics.device.sum() == 2ms);
    CHECK(metrics.send.sum() == 4ms);
  }
  const auto& totals = accounted.account.totals();
  CHECK(totals.requests == 3);
  CHECK(totals.latency == 21ms);
  CHECK(totals.bytes_read == 4096);
  CHECK(totals.bytes_written == 4096);  // a TRIM moves none
}

TEST_CASE("a request that was refused counts by its error, and moves no bytes") {
  auto accounted = Accounted();
  auto request = accounted.request(Command::write);
  request.error = Error::no_space;
  accounted.account.answered(request, accounted.begin + 3ms);
  const auto& metrics = accounted.metrics(Command::write);
  CHECK(metrics.bytes.value() == 0);
  CHECK(metrics.send.sum() == 0ms);
  for (auto index = std::size_t{0}; index < server::error_kinds.size(); ++index)
    CHECK(metrics.errors.at(index).value() == (server::error_kinds[index] == Error::no_space));
  CHECK(accounted.account.totals().requests == 1);
  CHECK(accounted.account.totals().bytes_written == 0);
}

TEST_CASE("a sync counts as failed when the device has lost data, and nothing else does") {
  auto accounted = Accounted();
  const auto flush = accounted.request(Command::flush);
  const auto durable = accounted.request(Command::write, proto::command_flag::fua);
  const auto plain = accounted.request(Command::write);
  const auto& failures = accounted.queue.metrics().sync_failures;
  accounted.account.failed(flush, EIO, Error::io);
  CHECK(failures.value() == 0);
  accounted.faults.fail_syncs(EIO);
  for (const auto* const request : {&flush, &durable, &plain})
    accounted.account.failed(*request, EIO, Error::io);
  CHECK(failures.value() == 2);
}

TEST_CASE("a request that failed is a line in the log, but the quick no to FAST_ZERO is none") {
  auto accounted = Accounted();
  accounted.account.failed(accounted.request(Command::write_zeroes), EOPNOTSUPP,
                           Error::not_supported);
  CHECK(accounted.log.take().empty());
  accounted.account.failed(accounted.request(Command::write), ENOSPC, Error::no_space);
  CHECK(accounted.log.take() ==
        std::vector<std::string>{"error: export \"disk\": WRITE of 4096 bytes at 512 failed: No "
                                 "space left on device"});
}

TEST_CASE("failing requests cannot fill the log") {
  auto accounted = Accounted();
  for (auto count = 0; count < 1000; ++count)
    accounted.account.failed(accounted.request(Command::read), EIO, Error::io);
  CHECK(accounted.log.take().size() < 100);
}

TEST_CASE("a request that took as long as the threshold is a line that says where its time went") {
  auto accounted = Accounted();
  const auto request = accounted.request(Command::read);
  accounted.account.answered(request, accounted.begin + slow - 1ns);
  CHECK(accounted.log.take().empty());
  accounted.account.answered(request, accounted.begin + slow);
  CHECK(accounted.log.take() ==
        std::vector<std::string>{"warning: a client: slow: READ of 4096 bytes at 512 of \"disk\" "
                                 "took 10.0 ms: queue 1.0, device 2.0, send 7.0"});
}

TEST_CASE("a request that is under way for long is said once, and counted at every look") {
  auto accounted = Accounted();
  auto request = accounted.request(Command::flush);
  for (auto look = 1; look <= 3; ++look)
    accounted.account.report_slow(request, "device", accounted.begin + look * slow);
  CHECK(accounted.queue.take_slow_count() == 3);
  CHECK(accounted.log.take() ==
        std::vector<std::string>{
            "warning: a client: slow, and not done: FLUSH of 4096 bytes at 512 of \"disk\" is "
            "under way for 10.0 ms, now in device"});
}
