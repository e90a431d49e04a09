// loopnbd_load_generator: an NBD client that costs as little as possible, to measure servers with.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "test/bench/content.h"
#include "test/bench/load.h"
#include "test/bench/options.h"
#include "test/bench/report.h"
#include "test/bench/session.h"

namespace {

using bench::Options;

constexpr std::size_t fill_step = 4U << 20;  // bytes

void fill(const Options& options) {
  const std::string& path = options.fill_path;
  const engine::FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (file.get() < 0)
    throw std::runtime_error(fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    throw std::runtime_error(fmt::format("cannot examine {}", path));
  const auto size =
      options.fill_size > 0 ? options.fill_size : static_cast<std::uint64_t>(status.st_size);
  const bench::Content content(options.content_seed, fill_step);
  for (std::uint64_t offset = 0; offset < size;) {
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(fill_step, size - offset));
    const ssize_t written =
        ::pwrite(file.get(), content.at(offset, length).data(), length, static_cast<off_t>(offset));
    if (written <= 0)
      throw std::runtime_error(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
    offset += static_cast<std::uint64_t>(written);
  }
  if (::fsync(file.get()) != 0) throw std::runtime_error(fmt::format("cannot sync {}", path));
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  // Without it many connections fail later on with a message of their own.
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::uint64_t request_length_max(const Options& options) {
  std::uint64_t length_max = 0;
  for (const auto& item : options.workload.mix) {
    const bool payload =
        item.command == proto::Command::read || item.command == proto::Command::write;
    if (payload) length_max = std::max(length_max, item.length);
  }
  return length_max;
}

// Share number `index` of `total` split into `count` whole shares.
std::uint64_t share(std::uint64_t total, std::uint32_t index, std::uint32_t count) {
  return total / count + (index < total % count ? 1 : 0);
}

std::vector<std::unique_ptr<bench::Load>> connect(const Options& options,
                                                  const bench::Content& content) {
  const std::chrono::milliseconds patience(
      static_cast<std::int64_t>(options.patience_seconds * 1000));
  const std::uint32_t thread_count = std::max(options.threads, 1U);
  std::vector<std::unique_ptr<bench::Load>> loads;
  for (std::uint32_t thread = 0; thread < thread_count; ++thread) {
    bench::LoadOptions part = options.load;
    part.count = share(part.count, thread, thread_count);
    part.rate /= thread_count;
    part.flush_at_end = part.flush_at_end && thread == 0;
    loads.push_back(std::make_unique<bench::Load>(part));
  }
  for (std::uint32_t i = 0; i < options.connections; ++i) {
    auto session = bench::open_session(options.address, options.structured, patience);
    bench::WorkloadOptions range = options.workload;
    if (range.range_offset >= session.export_size)
      throw std::runtime_error("the range begins behind the export");
    const std::uint64_t rest = session.export_size - range.range_offset;
    range.range_length = range.range_length == 0 ? rest : std::min(range.range_length, rest);
    bench::Workload workload(range, options.seed * 1'000'003 + i, i, options.connections);
    loads[i % thread_count]->add(std::move(session), std::move(workload), options.connection,
                                 content);
  }
  return loads;
}

bench::Report run(const std::vector<std::unique_ptr<bench::Load>>& loads) {
  bench::Report report;
  const double cpu_before = cpu_seconds();
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < loads.size(); ++i)
    threads.emplace_back([&load = *loads[i]] { load.run(); });
  loads.front()->run();
  for (auto& thread : threads) thread.join();
  report.client_cpu_seconds = cpu_seconds() - cpu_before;
  for (const auto& load : loads) {
    report.results.merge(load->results());
    report.seconds = std::max(report.seconds, load->seconds());
  }
  return report;
}

int measure(const Options& options) {
  raise_descriptor_limit();
  const bench::Content content(options.content_seed, request_length_max(options));
  const auto loads = connect(options, content);
  std::vector<bench::Session> idle;
  for (std::uint32_t i = 0; i < options.idle_connections; ++i) {
    const std::chrono::milliseconds patience(1000);
    idle.push_back(bench::open_session(options.address, options.structured, patience));
  }
  std::string line;
  if (options.controlled) {
    std::cout << "ready" << std::endl;
    if (!std::getline(std::cin, line)) return 1;
  }
  const bench::Report report = run(loads);
  std::cout << (options.json ? bench::format_json(report) : bench::format_text(report))
            << std::flush;
  while (options.controlled && std::getline(std::cin, line)) {
  }
  return report.results.clean() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto command_line = bench::parse_command_line(argc, argv);
    if (!command_line.options) return command_line.exit_status;
    if (command_line.options->fill_path.empty()) return measure(*command_line.options);
    fill(*command_line.options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "loopnbd_load_generator: {}\n", error.what());
    return 1;
  }
}
