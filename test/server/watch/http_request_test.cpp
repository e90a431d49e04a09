#include "server/watch/http_request.h"

#include <catch2/catch.hpp>
#include <string>

using server::HttpRequest;
using server::HttpSubject;
using server::judge_request;

namespace {

namespace http = boost::beast::http;

HttpRequest asking(const std::string& target, const std::string& host = "localhost") {
  auto request = HttpRequest(http::verb::get, target, 11);
  request.set(http::field::host, host);
  return request;
}

}  // namespace

TEST_CASE("a path says what a request is about, whatever query follows") {
  CHECK(judge_request(asking("/healthz"), true) == HttpSubject::health);
  CHECK(judge_request(asking("/readyz?verbose"), true) == HttpSubject::readiness);
  CHECK(judge_request(asking("/metrics"), false) == HttpSubject::metrics);
  CHECK(judge_request(asking("/status.json"), true) == HttpSubject::status_json);
  CHECK(judge_request(asking("/status"), true) == HttpSubject::status_page);
  CHECK(judge_request(asking("/"), true) == HttpSubject::nothing_here);
  CHECK(judge_request(asking("*"), true) == HttpSubject::nothing_here);
  auto program = asking("/status");
  program.set(http::field::accept, "application/json, */*");
  CHECK(judge_request(program, true) == HttpSubject::status_json);
  auto change = asking("/healthz");
  change.method(http::verb::delete_);
  CHECK(judge_request(change, true) == HttpSubject::wrong_method);
}

TEST_CASE("on an address of this machine alone, names that can lead anywhere are refused") {
  for (const auto* const host :
       {"localhost", "localhost:9", "a.localhost", "127.0.0.1:9", "[::1]", "[::1]:9", "", ":9"})
    CHECK(judge_request(asking("/healthz", host), true) == HttpSubject::health);
  for (const auto* const host : {"example.com", "example.com:9", "localhost.example.com", "a", "-",
                                 "[a.example", "[a.example]"}) {
    CAPTURE(host);
    CHECK(judge_request(asking("/healthz", host), true) == HttpSubject::name_of_others);
    CHECK(judge_request(asking("/healthz", host), false) == HttpSubject::health);
  }
}
