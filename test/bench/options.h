// The generator's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "test/bench/address.h"
#include "test/bench/connection.h"
#include "test/bench/load.h"
#include "test/bench/workload.h"

namespace bench {

struct Options {
  Address address;
  WorkloadOptions workload;  // range_length 0: up to the end of the export
  ConnectionOptions connection;
  LoadOptions load;  // of the whole run, to be shared among the threads
  std::uint32_t connections = 1;
  std::uint32_t threads = 1;
  std::uint32_t idle_connections = 0;
  bool structured = false;
  std::uint64_t seed = 1;  // of the offsets
  std::uint64_t content_seed = 1;
  double patience_seconds = 5;  // for a server that is just starting
  bool json = false;
  bool controlled = false;
  // Instead of a run: write the contents to this file, as long as the file is or as fill_size says.
  std::string fill_path;
  std::uint64_t fill_size = 0;
};

// Exits when --help is asked for (0) or something is wrong (a message and 2): then nothing is
// returned but the exit status.
struct ParsedCommandLine {
  std::optional<Options> options;
  int exit_status = 0;
};
ParsedCommandLine parse_command_line(int argc, char** argv);

}  // namespace bench
