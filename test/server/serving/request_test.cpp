#include "server/serving/request.h"

#include <catch2/catch.hpp>
#include <set>
#include <vector>

using server::Request;
using server::RequestPool;

namespace {

// The pool only stores the connection's address.
auto& no_connection() {
  static auto place = std::byte{};
  return reinterpret_cast<server::Connection&>(place);
}

}  // namespace

TEST_CASE("who holds many slots must leave as many to others") {
  auto pool = RequestPool(100);
  auto held = std::vector<Request*>{};
  while (auto* const slot = pool.take(no_connection(), held.size())) held.push_back(slot);
  CHECK(held.size() == 50);
  auto* const other = pool.take(no_connection(), 0);
  REQUIRE(other != nullptr);
  pool.give_back(*other);
  for (auto* const slot : held) pool.give_back(*slot);
}

TEST_CASE("the slots that are taken, and no others, can be visited") {
  auto pool = RequestPool(200);
  auto taken = std::set<Request*>{};
  for (auto index = 0; index < 90; ++index) taken.insert(pool.take(no_connection(), 0));
  for (auto index = 0; index < 40; ++index) {
    auto* const first = *taken.begin();
    taken.erase(first);
    pool.give_back(*first);
  }
  CHECK(pool.taken() == 50);
  auto visited = std::set<Request*>{};
  pool.for_each_taken([&](Request& request) { CHECK(visited.insert(&request).second); });
  CHECK(visited == taken);
}

TEST_CASE("a slot comes back as new") {
  auto pool = RequestPool(4);
  auto* slot = pool.take(no_connection(), 0);
  slot->error = proto::Error::io;
  slot->fua = true;
  slot->head_size = 3;
  slot->pieces_in_flight = 1;
  pool.give_back(*slot);
  slot = pool.take(no_connection(), 0);
  CHECK(slot->error == proto::Error::none);
  CHECK_FALSE(slot->fua);
  CHECK(slot->reply_size() == 0);
  CHECK(slot->pieces_in_flight == 0);
  CHECK(slot->whole == slot);
  pool.give_back(*slot);
}
