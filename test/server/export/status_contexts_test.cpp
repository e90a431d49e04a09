#include "server/export/status_contexts.h"

#include <catch2/catch.hpp>
#include <set>

#include "proto/constants.h"

TEST_CASE("base:allocation says of an extent whether it is a hole and whether it reads as zeroes") {
  const auto& allocation = server::status_contexts().front();
  CHECK(allocation.context.name == proto::allocation_context_name);
  CHECK(allocation.flags_of({.length = 1}) == 0);
  CHECK(allocation.flags_of({.length = 1, .hole = true}) == proto::allocation_flag::hole);
  CHECK(allocation.flags_of({.length = 1, .hole = true, .zero = true}) ==
        (proto::allocation_flag::hole | proto::allocation_flag::zero));
}

TEST_CASE("the contexts of an export have ids and names of their own, and fit a selection") {
  auto ids = std::set<std::uint32_t>{0};
  auto names = std::set<std::string>{""};
  for (const auto& offered : server::status_contexts()) {
    CHECK(ids.insert(offered.context.id).second);
    CHECK(names.insert(offered.context.name).second);
  }
  CHECK(server::status_contexts().size() <= proto::meta_contexts_max);
}
