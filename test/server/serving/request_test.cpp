#include "server/serving/request.h"

#include <catch2/catch.hpp>
#include <set>
#include <vector>

using server::Piece;
using server::Request;
using server::RequestPool;
using server::RequestState;

namespace {

// The pool only stores the connection's address.
auto& no_connection() {
  static auto place = std::byte{};
  return reinterpret_cast<server::Connection&>(place);
}

}  // namespace

TEST_CASE("a connection that holds many slots must leave as many to others") {
  auto pool = RequestPool(100);
  auto held = std::vector<Request*>{};
  while (auto* const request = pool.take_request(no_connection(), held.size()))
    held.push_back(request);
  CHECK(held.size() == 50);
  auto* const other = pool.take_request(no_connection(), 0);
  REQUIRE(other != nullptr);
  CHECK(pool.take_piece(*other, 50) == nullptr);
  auto* const further = pool.take_piece(*other, 1);
  REQUIRE(further != nullptr);
  CHECK(pool.invariants());
  pool.give_back(*further);
  pool.give_back(*other->own);
  for (auto* const request : held) pool.give_back(*request->own);
  CHECK(pool.taken() == 0);
  CHECK(pool.invariants());
}

TEST_CASE("the requests there are, and no further pieces, can be visited") {
  auto pool = RequestPool(200);
  auto taken = std::set<Request*>{};
  for (auto index = 0; index < 90; ++index) taken.insert(pool.take_request(no_connection(), 0));
  for (auto index = 0; index < 40; ++index) {
    auto* const first = *taken.begin();
    taken.erase(first);
    pool.give_back(*first->own);
  }
  auto* const further = pool.take_piece(**taken.begin(), 0);
  CHECK(pool.taken() == 51);
  auto visited = std::set<Request*>{};
  pool.for_each_request([&](Request& request) { CHECK(visited.insert(&request).second); });
  CHECK(visited == taken);
  CHECK(pool.invariants());
  pool.give_back(*further);
}

TEST_CASE("a slot comes back as new") {
  auto pool = RequestPool(4);
  auto* request = pool.take_request(no_connection(), 0);
  request->error = proto::Error::io;
  request->all_submitted = true;
  request->reported_slow = true;
  request->enter(RequestState::replying);
  request->own->fua = true;
  request->own->head_size = 3;
  pool.give_back(*request->own);
  request = pool.take_request(no_connection(), 0);
  CHECK(request->error == proto::Error::none);
  CHECK(request->state == RequestState::waiting);
  CHECK_FALSE(request->all_submitted);
  CHECK_FALSE(request->reported_slow);
  CHECK_FALSE(request->own->fua);
  CHECK(request->own->reply_size() == 0);
  CHECK(request->own->request == request);
  pool.give_back(*request->own);
}

TEST_CASE("the state of a request follows its pieces") {
  const auto now = server::Clock::now();
  auto pool = RequestPool(4);
  auto& request = *pool.take_request(no_connection(), 0);
  request.header.command = proto::Command::write;
  request.enter(RequestState::receiving);
  request.piece_submitted(now, false);
  CHECK(request.state == RequestState::on_device);
  request.piece_submitted(now, true);
  CHECK(request.state == RequestState::held);
  request.piece_completed(now);
  CHECK(request.state == RequestState::held);
  request.piece_completed(now);
  CHECK(request.state == RequestState::receiving);
  CHECK_FALSE(request.is_over());
  request.all_submitted = true;
  request.piece_submitted(now, false);
  request.piece_completed(now);
  CHECK(request.state == RequestState::replying);
  CHECK(request.is_over());
  CHECK(request.invariants());
  pool.give_back(*request.own);
}

TEST_CASE("a READ between two pieces waits for buffers") {
  auto pool = RequestPool(4);
  auto& request = *pool.take_request(no_connection(), 0);
  request.piece_submitted(server::Clock::now(), false);
  request.piece_completed(server::Clock::now());
  CHECK(request.state == RequestState::waiting);
  pool.give_back(*request.own);
}
