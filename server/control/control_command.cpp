#include "server/control/control_command.h"

namespace server {

ControlArgument export_argument() { return {.name = "export", .flag = "EXPORT", .needed = true}; }

boost::json::object text_result(const std::string& text) { return {{"text", text}}; }

}  // namespace server
