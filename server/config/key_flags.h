// The flags of a table of keys on one command of the command line: what --help says of them, and
// what they were given. Used by the thread that parses the command line; copies are for those who
// apply the flags again later.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/config/keys.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace server {

template <typename Owner>
class KeyFlags {
 public:
  struct Given {
    const Key<Owner>* key;  // a row of the table
    KeyValue value;
  };

  explicit KeyFlags(std::span<const Key<Owner>> keys) : keys_(keys) {}

  // This object stays where it is until `command` has been parsed.
  void add_to(CLI::App& command);
  bool is_given(std::string_view flag) const { return texts_.contains(flag); }
  // In the order of the rows. Throws UserError that names the flag.
  std::vector<Given> given() const;
  // Throws UserError that names the flag.
  void apply(Owner& owner) const;

 private:
  std::span<const Key<Owner>> keys_;
  // The texts behind each flag that was given.
  std::map<std::string, std::vector<std::string>, std::less<>> texts_;
};

}  // namespace server
