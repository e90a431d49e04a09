#include "test/bench/options.h"

#include <stdexcept>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace bench {
namespace {

// The words of the command line before they become Options.
struct Raw {
  std::string address;
  std::optional<std::string> export_name;
  std::string operation = "read";
  std::string pattern = "random";
  std::string block_size = "4k";
  std::string mix;
  std::string range_offset = "0";
  std::string range_length = "0";
  std::string fill_size = "0";
};

void declare_workload(CLI::App& app, Raw& raw, Options& options) {
  app.add_option("--operation", raw.operation,
                 "read, write, trim, flush, zero, or mixed (half read, half write)")
      ->capture_default_str();
  app.add_option("--mix", raw.mix,
                 "instead: command:length:weight,... as in write:1M:8,trim:1G:1,flush:0:1");
  app.add_option("--pattern", raw.pattern, "random or sequential")
      ->check(CLI::IsMember({"random", "sequential"}))
      ->capture_default_str();
  app.add_option("--block-size", raw.block_size, "bytes of a request")->capture_default_str();
  app.add_option("--range-offset", raw.range_offset, "where the range begins that is used")
      ->capture_default_str();
  app.add_option("--range-length", raw.range_length, "its length; 0: up to the end")
      ->capture_default_str();
  app.add_flag("--fua", options.workload.fua, "set FUA on whatever changes the export");
  app.add_option("--seed", options.seed, "of the random offsets")->capture_default_str();
  app.add_option("--depth", options.connection.depth, "requests in flight per connection")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--connections", options.connections)
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "share the connections among threads")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--idle-connections", options.idle_connections,
                 "further ones that ask for nothing");
  app.add_option("--seconds", options.load.seconds, "how long; 5 unless --count is given");
  app.add_option("--count", options.load.count, "how many requests, over all connections");
  app.add_option("--rate", options.load.rate, "requests per second at most, over all connections");
  app.add_flag("--flush-at-end", options.load.flush_at_end, "a FLUSH belongs to the measured time");
}

void declare_rest(CLI::App& app, Raw& raw, Options& options) {
  app.add_option("address", raw.address,
                 "unix:PATH, HOST:PORT, nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH");
  app.add_option("--export", raw.export_name, "name of the export");
  app.add_flag("--structured", options.structured, "ask for structured replies");
  app.add_flag("--verify", options.connection.verify,
               "compare what is read with the contents of --fill and of writes");
  app.add_option("--content-seed", options.content_seed, "other contents")->capture_default_str();
  app.add_flag("--discard", options.connection.discard,
               "TCP: let the kernel drop the payload of large reads");
  app.add_option("--wait", options.patience_seconds, "seconds to wait until a server listens")
      ->capture_default_str();
  app.add_flag("--json", options.json, "the report as one line of JSON");
  app.add_flag("--controlled", options.controlled,
               "say 'ready' once connected, start at a line of input, keep the connections until "
               "input ends");
  app.add_option("--fill", options.fill_path, "write the contents to this file instead, and exit");
  app.add_option("--fill-size", raw.fill_size, "how long that file becomes; 0: as long as it is");
}

Options interpret(const Raw& raw, Options options) {
  options.fill_size = parse_size(raw.fill_size);
  if (!options.fill_path.empty()) return options;
  if (raw.address.empty()) throw std::invalid_argument("the address of a server is missing");
  options.address = parse_address(raw.address);
  if (raw.export_name) options.address.export_name = *raw.export_name;

  WorkloadOptions& workload = options.workload;
  workload.range_offset = parse_size(raw.range_offset);
  workload.range_length = parse_size(raw.range_length);
  workload.access_pattern =
      raw.pattern == "random" ? AccessPattern::random : AccessPattern::sequential;
  const std::uint64_t block_size = parse_size(raw.block_size);
  if (block_size == 0 || block_size > (32U << 20)) {
    throw std::invalid_argument("the block size must be between 1 byte and 32 MiB");
  }
  if (!raw.mix.empty()) {
    workload.mix = parse_mix(raw.mix);
  } else if (raw.operation == "mixed") {
    workload.mix = {{proto::Command::read, block_size, 1}, {proto::Command::write, block_size, 1}};
  } else {
    const auto command = parse_command(raw.operation);
    workload.mix = {{command, command == proto::Command::flush ? 0 : block_size, 1}};
  }
  if (options.load.seconds == 0 && options.load.count == 0) options.load.seconds = 5;
  if (options.threads > options.connections) {
    throw std::invalid_argument("there are more threads than connections");
  }
  // A share of no requests would mean no limit.
  if (options.load.count > 0 && options.load.count < options.threads) {
    throw std::invalid_argument("there are more threads than requests");
  }
  return options;
}

}  // namespace

ParsedCommandLine parse_command_line(int argc, char** argv) {
  CLI::App app{"Loads an NBD server and measures it"};
  Raw raw;
  Options options;
  declare_workload(app, raw, options);
  declare_rest(app, raw, options);
  try {
    app.parse(argc, argv);
    return {.options = interpret(raw, options)};
  } catch (const CLI::ParseError& error) {
    return {.options = {}, .exit_status = app.exit(error) == 0 ? 0 : 2};
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "loopnbd_load_generator: {}\n", error.what());
    return {.options = {}, .exit_status = 2};
  }
}

}  // namespace bench
