// The request of `loopnbd ctl add`: what its command line says of the new export, as JSON. The
// other end is control/export_request.h. Any thread.
#pragma once

#include <boost/json/object.hpp>

#include "server/config/export_argument.h"
#include "server/config/key_flags.h"

namespace server {

// Adds {"export": NAME, "path": FILE} and the given keys, called and written as in the file. Throws
// UserError for a flag that cannot be.
void put_export(boost::json::object& arguments, const ExportArgument& argument,
                const KeyFlags<ExportConfig>& flags);

}  // namespace server
