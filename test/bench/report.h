// The outcome of a run as text for people or as one line of JSON.
#pragma once

#include <string>

#include "test/bench/connection.h"

namespace bench {

struct Report {
  Results results;
  double seconds = 0;
  double client_cpu_seconds = 0;  // user and system time of this process meanwhile
};

std::string format_text(const Report& report);
std::string format_json(const Report& report);

}  // namespace bench
