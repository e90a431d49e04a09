#include "server/policy/network.h"

#include <catch2/catch.hpp>

using server::parse_network;

TEST_CASE("a network is an address and how many of its bits count") {
  struct Case {
    const char* text;
    const char* inside;
    const char* outside;
    const char* formatted;
  };
  for (const auto& [text, inside, outside, formatted] : {
           Case{"10.0.0.0/8", "10.255.0.1", "11.0.0.0", "10.0.0.0/8"},
           Case{"192.0.2.7", "192.0.2.7", "192.0.2.6", "192.0.2.7"},
           Case{"192.0.2.7/32", "192.0.2.7", "192.0.2.6", "192.0.2.7"},
           Case{"192.0.2.4/30", "192.0.2.7", "192.0.2.8", "192.0.2.4/30"},
           Case{"0.0.0.0/0", "203.0.113.9", "::1", "0.0.0.0/0"},
           Case{"fd00::/8", "fdff::1", "fe00::", "fd00::/8"},
           Case{"::1", "::1", "127.0.0.1", "::1"},
           Case{"::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0", "10.0.0.0/8"},
       }) {
    CAPTURE(text);
    const auto network = parse_network(text);
    CHECK(contains(network, *server::parse_ip_address(inside)));
    CHECK_FALSE(contains(network, *server::parse_ip_address(outside)));
    CHECK(format_network(network) == formatted);
    CHECK(without_host_bits(network) == network);
  }
}

TEST_CASE("a text that is no network is refused with what is wrong with it") {
  for (const auto* const text : {"", "/8", "somebody", "10.0.0", "10.0.0.0.0/8", "fd00:/8"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_network(text), "is no address and no network");
  }
  for (const auto* const text :
       {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "::/129", "::ffff:10.0.0.0/95"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_network(text), "has an impossible prefix length");
  }
}

TEST_CASE("the bits of an address behind the prefix can be taken off") {
  CHECK(without_host_bits(parse_network("192.168.1.1/8")) == parse_network("192.0.0.0/8"));
  CHECK(without_host_bits(parse_network("10.255.255.255/0")) == parse_network("0.0.0.0/0"));
  CHECK(without_host_bits(parse_network("fe80::ffff/121")) == parse_network("fe80::ff80/121"));
}
