// Metadata contexts: what a BLOCK_STATUS can report of an export. An export offers a list of them;
// a client selects some by name and knows them by their ids from then on.
// Spec: "Metadata querying", "`base:allocation` metadata context".
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace proto {

inline constexpr std::size_t meta_contexts_max = 4;  // of one export

struct MetaContext {
  std::uint32_t id = 0;  // not zero; unique in its export
  std::string name;      // "namespace:leaf"

  // Whether a query of SET_META_CONTEXT selects it, or one of LIST_META_CONTEXT finds it.
  bool is_selected_by(std::string_view query) const noexcept { return query == name; }
  bool is_listed_by(std::string_view query) const noexcept {
    const auto namespace_and_colon = std::string_view(name).substr(0, name.find(':') + 1);
    return query == namespace_and_colon || is_selected_by(query);
  }
};

// The one that the specification defines.
inline constexpr std::uint32_t allocation_context_id = 1;
inline constexpr std::string_view allocation_context_name = "base:allocation";

// The ids of some contexts of an export, each of them once.
class ContextIds {
 public:
  // False: it is there already, or there is no room.
  bool add(std::uint32_t id) noexcept {
    if (count_ == ids_.size() || contains(id)) return false;
    ids_[count_++] = id;
    return true;
  }
  bool contains(std::uint32_t id) const noexcept { return std::find(begin(), end(), id) != end(); }
  bool empty() const noexcept { return count_ == 0; }
  std::size_t size() const noexcept { return count_; }
  const std::uint32_t* begin() const noexcept { return ids_.data(); }
  const std::uint32_t* end() const noexcept { return ids_.data() + count_; }
  bool operator==(const ContextIds&) const = default;

 private:
  std::array<std::uint32_t, meta_contexts_max> ids_{};  // zero from count_ on
  std::size_t count_ = 0;
};

}  // namespace proto
