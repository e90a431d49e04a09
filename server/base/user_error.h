// An error that a message explains to a person: what was tried, on what, why it failed, and what to
// do. Thrown at start-up and by changes of a running server, never on the data path.
#pragma once

#include <stdexcept>

namespace server {

struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace server
