// An argument of a command of the control socket: how a request carries it, and how the command
// line of `loopnbd ctl` does. A value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace server {

struct ControlArgument {
  enum class Kind {
    text,
    path,        // a text; the client makes it absolute
    named_file,  // a path; on the command line [NAME=]FILE and the flags of an export's keys,
                 // which give the other arguments
    export_key,  // a key of an [[export]], or a table of keys; its taker checks it
    number,
    size,  // a number of bytes; on the command line with K, M, G, T
    real,
    flag,  // true or false
  };

  std::string name;       // of the member of the request
  std::string flag = {};  // "--size"; "SIZE": stands without a flag; empty: another one gives it
  Kind kind = Kind::text;
  std::string help = {};
  bool needed = false;
  std::vector<std::string> choices = {};  // of a text; empty: any
  std::string chosen = {};                // what `flag` chooses; empty: its value says it
  std::uint64_t number_min = 0;
  std::uint64_t number_max = UINT64_MAX;
};

}  // namespace server
