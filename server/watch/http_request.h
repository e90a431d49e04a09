// Judges what a request for HTTP is about, before anything is answered. Pure functions; any thread.
#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>

namespace server {

using HttpRequest = boost::beast::http::request<boost::beast::http::empty_body>;
using HttpParser = boost::beast::http::request_parser<boost::beast::http::empty_body>;

constexpr std::uint32_t http_header_size_max = 8192;  // bytes

// Sets the bounds of a request; it has no body.
void bound_request(HttpParser& parser);

enum class HttpSubject : std::uint8_t {
  health,
  readiness,
  metrics,
  status_json,
  status_page,
  nothing_here,
  wrong_method,
  name_of_others,  // asked of an address of this machine alone, by a name that may be anybody's
};

// `of_this_machine`: the connection does not leave it.
HttpSubject judge_request(const HttpRequest& request, bool of_this_machine);

}  // namespace server
