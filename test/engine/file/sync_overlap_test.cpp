#include "engine/file/sync_overlap.h"

#include <catch2/catch.hpp>
#include <string>
#include <thread>

using engine::SyncOverlap;

TEST_CASE("a sync says nothing before those that overlapped it have ended") {
  SyncOverlap overlap;
  std::string order;
  const auto first = overlap.begin();
  std::thread other([&] {
    const auto second = overlap.begin();
    overlap.end(second);
    order += "second";
  });
  while (overlap.waiting() == 0) std::this_thread::yield();
  order += "first ";
  overlap.end(first);
  other.join();
  CHECK(order == "first second");
}

TEST_CASE("a sync that has ended does not wait for those that begin later") {
  SyncOverlap overlap;
  const auto first = overlap.begin();
  const auto second = overlap.begin();
  std::thread waits_for_first([&] { overlap.end(second); });
  while (overlap.waiting() == 0) std::this_thread::yield();
  const auto third = overlap.begin();
  std::thread waits_for_third([&] { overlap.end(first); });
  waits_for_first.join();  // although the third goes on
  overlap.end(third);
  waits_for_third.join();
  CHECK(overlap.waiting() == 0);
}
