#include "server/policy/access.h"

#include <catch2/catch.hpp>
#include <stdexcept>

using server::AccessRules;
using server::ClientIdentity;
using server::matches_glob;
using server::parse_client_pattern;

namespace {

ClientIdentity at(const std::string& address) {
  auto client = ClientIdentity{.name = address};
  client.address = server::parse_ip_address(address);
  REQUIRE(client.address);
  return client;
}

ClientIdentity local(uid_t user, std::vector<gid_t> groups) {
  auto client = ClientIdentity{.name = "local"};
  client.local = server::LocalProcess{.process = 1, .user = user, .groups = std::move(groups)};
  return client;
}

bool match(const std::string& pattern, const ClientIdentity& client) {
  return matches(parse_client_pattern(pattern), client);
}

}  // namespace

TEST_CASE("networks are compared bit by bit") {
  struct Case {
    const char* network;
    const char* inside;
    const char* outside;
  };
  const auto cases = {
      Case{"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
      Case{"10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
      Case{"192.0.2.128/25", "192.0.2.128", "192.0.2.127"},
      Case{"192.0.2.4/30", "192.0.2.7", "192.0.2.8"},
      Case{"192.0.2.7", "192.0.2.7", "192.0.2.70"},
      Case{"192.0.2.7/32", "192.0.2.7", "192.0.2.6"},
      Case{"fd00::/8", "fdff::1", "fe00::1"},
      Case{"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
      Case{"::1", "::1", "::2"},
      // Both ways of writing an IPv4 client are the same client.
      Case{"10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"},
      Case{"::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"},
      Case{"::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"},
      // Everybody of one family is nobody of the other.
      Case{"0.0.0.0/0", "203.0.113.9", "2001:db8::1"},
      Case{"0.0.0.0/0", "::ffff:203.0.113.9", "::1"},
      Case{"::/0", "2001:db8::1", "203.0.113.9"},
      Case{"::/0", "::1", "::ffff:203.0.113.9"},
  };
  for (const auto& [network, inside, outside] : cases) {
    CAPTURE(network, inside, outside);
    CHECK(match(network, at(inside)));
    CHECK_FALSE(match(network, at(outside)));
    CHECK_FALSE(match(network, local(0, {0})));
  }
}

TEST_CASE("users and groups are those of the peer process, supplementary groups among them") {
  const auto client = local(1000, {100, 4, 27});
  CHECK(match("uid:1000", client));
  CHECK_FALSE(match("uid:100", client));
  for (const auto* const group : {"gid:100", "gid:4", "gid:27"}) CHECK(match(group, client));
  CHECK_FALSE(match("gid:1000", client));
  CHECK_FALSE(match("uid:0", at("127.0.0.1")));
  CHECK_FALSE(match("gid:0", at("127.0.0.1")));
}

TEST_CASE("certificates match when every attribute of the pattern does") {
  auto client = at("192.0.2.1");
  CHECK_FALSE(match("cert:CN=*", client));
  client.certificate_names = {{.attribute = "O", .value = "Example"},
                              {.attribute = "OU", .value = "storage"},
                              {.attribute = "OU", .value = "backup"},
                              {.attribute = "CN", .value = "node-17"},
                              {.attribute = "DNS", .value = "node-17.example"}};
  for (const auto* const pattern :
       {"cert:CN=node-*", "cert:CN=node-17", "cert:cn=node-1?", "cert:O=Example,CN=node-*",
        "cert:OU=storage", "cert:OU=backup", "cert:DNS=*.example"}) {
    CAPTURE(pattern);
    CHECK(match(pattern, client));
  }
  for (const auto* const pattern :
       {"cert:CN=node", "cert:CN=ode-17", "cert:CN=Node-17", "cert:O=Other,CN=node-*", "cert:C=*",
        "cert:DNS=node-*.other", "psk:node-17"}) {
    CAPTURE(pattern);
    CHECK_FALSE(match(pattern, client));
  }
}

TEST_CASE("a user of pre-shared keys matches by name, and nobody without one") {
  auto client = at("192.0.2.1");
  CHECK_FALSE(match("psk:*", client));
  client.psk_user = "backup-7";
  CHECK(match("psk:backup-*", client));
  CHECK(match("psk:*", client));
  CHECK_FALSE(match("psk:backup", client));
  CHECK_FALSE(match("cert:CN=backup-7", client));
}

TEST_CASE("a glob matches whole texts") {
  struct Case {
    const char* glob;
    const char* text;
    bool expected;
  };
  const auto cases = {
      Case{"", "", true},
      Case{"", "a", false},
      Case{"*", "", true},
      Case{"**", "abc", true},
      Case{"a*c", "abc", true},
      Case{"a*c", "abcd", false},
      Case{"a*c", "ac", true},
      Case{"*b*", "abc", true},
      Case{"a?c", "abc", true},
      Case{"a?c", "ac", false},
      Case{"*aab", "aaaab", true},
      Case{"a*b*c", "a-b-b-c", true},
      Case{"abc", "ABC", false},
      Case{"[a]", "a", false},
      Case{"*x", "abc", false},
      Case{"a*", "b", false},
      Case{"*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
  };
  for (const auto& [glob, text, expected] : cases) {
    CAPTURE(glob, text);
    CHECK(matches_glob(glob, text) == expected);
  }
}

TEST_CASE("what is no pattern is refused with the forms that there are") {
  for (const auto* const text : {"",
                                 "10.0.0.0/33",
                                 "10.0.0.0/",
                                 "10.0.0.0/-1",
                                 "10.0.0/8",
                                 "10.1.2.3/8",
                                 "fd00::1/8",
                                 "fd00::/129",
                                 "::ffff:10.0.0.0/95",
                                 "::ffff:10.0.0.1/104",
                                 "example.com",
                                 "cert:",
                                 "cert:node-*",
                                 "cert:=x",
                                 "cert:CN=",
                                 "cert:CN=a,,O=b",
                                 "psk:",
                                 "uid:",
                                 "uid:root",
                                 "uid:-1",
                                 "uid:4294967295",
                                 "gid:x",
                                 "gid:1 ",
                                 "user:alice",
                                 "*"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_client_pattern(text), std::runtime_error);
    CHECK_THROWS_WITH(parse_client_pattern(text), Catch::Contains("cert:CN=NAME"));
  }
}

TEST_CASE("without rules everybody may do everything; with some, those whom one of them names") {
  auto rules = AccessRules{};
  CHECK(rules.may_use(at("192.0.2.1")));
  CHECK(rules.may_use(ClientIdentity{}));
  CHECK(rules.may_write(ClientIdentity{}));
  rules.allow = {parse_client_pattern("10.0.0.0/8"), parse_client_pattern("uid:1000")};
  rules.read_only_for = {parse_client_pattern("10.9.0.0/16")};
  CHECK(rules.may_use(at("10.9.1.1")));
  CHECK_FALSE(rules.may_write(at("10.9.1.1")));
  CHECK(rules.may_write(at("10.8.1.1")));
  CHECK(rules.may_use(local(1000, {1})));
  CHECK_FALSE(rules.may_use(local(1001, {1})));
  CHECK_FALSE(rules.may_use(at("192.0.2.1")));
  CHECK_FALSE(rules.may_use(ClientIdentity{}));
}
