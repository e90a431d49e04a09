#include "server/watch/http_request.h"

#include <string_view>

namespace server {
namespace {

namespace http = boost::beast::http;

// A page of somebody else can have its own name lead here, and would then be allowed by a browser
// to read what is meant for this machine alone. Numbers and "localhost" cannot be led elsewhere.
bool is_name_of_others(std::string_view host) {
  const auto colon = host.rfind(':');
  const auto in_brackets = host.starts_with('[');
  if (colon != std::string_view::npos && !(in_brackets && host.ends_with(']')))
    host = host.substr(0, colon);
  if (in_brackets)
    return !host.ends_with(']') ||
           host.find_first_not_of("[0123456789abcdefABCDEF:.]") != std::string_view::npos;
  if (host.empty() || host == "localhost" || host.ends_with(".localhost")) return false;
  return host.find_first_not_of("0123456789.") != std::string_view::npos;
}

// Programs that ask for JSON and not for a page get it at /status, too.
bool wants_json(const HttpRequest& request) {
  const auto value = request[http::field::accept];
  const auto accept = std::string_view(value.data(), value.size());
  const auto has = [&](std::string_view type) {
    return accept.find(type) != std::string_view::npos;
  };
  return has("application/json") && !has("text/html");
}

std::string_view path_of(const HttpRequest& request) {
  const auto target = request.target();
  return std::string_view(target.data(), target.size()).substr(0, target.find('?'));
}

}  // namespace

void bound_request(HttpParser& parser) {
  parser.header_limit(http_header_size_max);
  parser.body_limit(0);
}

HttpSubject judge_request(const HttpRequest& request, bool of_this_machine) {
  using enum HttpSubject;
  if (request.method() != http::verb::get && request.method() != http::verb::head)
    return wrong_method;
  const auto host = request[http::field::host];
  if (of_this_machine && is_name_of_others({host.data(), host.size()})) return name_of_others;
  const auto path = path_of(request);
  if (path == "/healthz") return health;
  if (path == "/readyz") return readiness;
  if (path == "/metrics") return metrics;
  if (path == "/status.json") return status_json;
  if (path == "/status") return wants_json(request) ? status_json : status_page;
  return nothing_here;
}

}  // namespace server
