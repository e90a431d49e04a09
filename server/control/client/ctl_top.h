// `loopnbd ctl top`: the load of exports and clients in the terminal, until it is interrupted.
#pragma once

#include <boost/json/object.hpp>
#include <functional>

#include "server/control/client/ctl_command_line.h"

namespace server {

// `ask` gives a status at each call.
int run_top(const Ctl& ctl, const std::function<boost::json::object()>& ask);

}  // namespace server
