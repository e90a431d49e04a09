#include "server/control/client/ctl.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <iostream>
#include <stdexcept>
#include <utility>

#include "server/control/client/ctl_client.h"
#include "server/control/client/ctl_text.h"
#include "server/control/client/ctl_top.h"

namespace server {
namespace {

namespace json = boost::json;

json::object result_of(const std::string& answer) {
  auto parsed = json::parse(answer).as_object();
  if (parsed.at("ok").as_bool()) return std::move(parsed.at("result").as_object());
  throw std::runtime_error(std::string(parsed.at("error").as_string()));
}

}  // namespace

int run_ctl(const Ctl& ctl) {
  auto client = CtlClient(ctl.socket);
  if (ctl.command == "top") return run_top(ctl, [&] { return result_of(client.ask(ctl.request)); });
  const auto result = result_of(client.ask(ctl.request));
  if (ctl.json) {
    std::cout << result << '\n';
  } else if (ctl.command == "status") {
    std::cout << format_status(result);
  } else if (ctl.command == "connections") {
    std::cout << format_connections(result);
  } else {
    std::cout << result.at("text").as_string().c_str() << '\n';
  }
  return 0;
}

}  // namespace server
