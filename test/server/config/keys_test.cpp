#include "server/config/keys.h"

#include <catch2/catch.hpp>
#include <set>

using server::Effect;
using server::Key;
using server::KeyType;
using server::KeyValue;
using Form = KeyType::Form;

namespace {

// A value that the key takes and that is not its default.
KeyValue other_value(const KeyType& type, const std::string& name) {
  switch (type.form) {
    case Form::truth:
      return name != "sandbox" && name != "lock";
    case Form::count:
      return static_cast<std::int64_t>(type.most);
    case Form::size:
    case Form::rate:
      return std::int64_t{1} << 30;
    case Form::seconds:
      return 7.5;
    case Form::word:
      return std::string(type.words.back());
    case Form::list:
      return std::vector<std::string>{name == "listen" ? "127.0.0.1:1" : "10.0.0.0/8"};
    default:
      return std::string("127.0.0.1:1");
  }
}

template <typename Owner>
void check_rows(std::span<const Key<Owner>> keys) {
  auto names = std::set<std::string>{};
  auto flags = std::set<std::string>{};
  for (const auto& key : keys) {
    CAPTURE(key.full_name());
    CHECK(names.insert(key.full_name()).second);
    if (!key.flag.empty()) {
      CHECK(flags.insert(key.flag).second);
      CHECK(key.flag.starts_with("--"));
    }
    CHECK_FALSE(key.help.empty());
    CHECK_FALSE(key.help.ends_with('.'));
    CHECK((key.manual.empty() || key.manual.ends_with('.')));
    // The row leads to a field of its own.
    auto owner = Owner{};
    key.assign(owner, other_value(key.type, key.name));
    for (const auto& other : keys) {
      CAPTURE(other.full_name());
      CHECK(other.same(owner, Owner{}) == (&other != &key));
    }
    // A nonsensical value changes nothing.
    const auto before = owner;
    CHECK_THROWS(key.assign(owner, KeyValue{}));
    CHECK(key.same(owner, before));
    // The default, where it is a value and not an explanation.
    if (key.type.form == Form::count || key.type.form == Form::word ||
        key.type.form == Form::seconds) {
      auto by_text = owner;
      const auto value = flag_value(key.type, {key.default_text});
      if (value && (key.type.form == Form::word || !std::holds_alternative<std::string>(*value)) &&
          key.full_name() != "tls.mode") {
        key.assign(by_text, *value);
        CHECK(key.same(by_text, Owner{}));
      }
    }
  }
}

}  // namespace

TEST_CASE("each row of the server's keys has a name, a flag and a field of its own") {
  check_rows(server::server_keys());
}

TEST_CASE("each row of an export's keys has a name, a flag and a field of its own") {
  check_rows(server::export_keys());
}

TEST_CASE("a flag means one thing, of the server or of an export") {
  auto flags = std::set<std::string>{"--config", "--stdio"};
  for (const auto& key : server::server_keys()) CHECK(flags.insert(key.flag).second);
  for (const auto& key : server::export_keys())
    if (!key.flag.empty()) CHECK(flags.insert(key.flag).second);
}

TEST_CASE("the known names are the keys and the tables among them") {
  CHECK(known_names(server::server_keys(), "tls") ==
        std::vector<std::string>{"mode", "certificate", "key", "client_ca", "psk_file"});
  const auto names = known_names(server::server_keys(), "");
  CHECK(std::ranges::count(names, "listen") == 1);
  CHECK(std::ranges::count(names, "tls") == 1);
  CHECK(known_names(server::server_keys(), "no such table").empty());
  const auto limits = known_names(server::export_keys(), "limits");
  CHECK(limits == known_names(server::export_keys(), "client_limits"));
  CHECK(limits.size() == server::rates.size() + 1);
}

TEST_CASE("a key that a reload cannot put into use waits for a restart, by its full name") {
  const auto now = server::Config{};
  for (const auto& key : server::server_keys()) {
    CAPTURE(key.full_name());
    auto then = now;
    key.assign(then, other_value(key.type, key.name));
    const auto names = server::keys_for_restart(now, then);
    if (key.effect == Effect::restart)
      CHECK(names == std::vector<std::string>{key.full_name()});
    else
      CHECK(names.empty());
  }
}

TEST_CASE("a reload takes over every key that does not wait for a restart, and no other") {
  const auto now = server::Config{};
  for (const auto& key : server::server_keys()) {
    CAPTURE(key.full_name());
    auto then = now;
    key.assign(then, other_value(key.type, key.name));
    auto reloaded = now;
    take_over(reloaded, then);
    CHECK(key.same(reloaded, then) == (key.effect != Effect::restart));
    CHECK((key.effect != Effect::exports && key.effect != Effect::reopen));
  }
}

TEST_CASE("an export waits for no restart") {
  for (const auto& key : server::export_keys()) {
    CAPTURE(key.full_name());
    CHECK((key.effect == Effect::exports || key.effect == Effect::reopen));
  }
}

TEST_CASE("the help of a flag that negates its key says so") {
  const auto keys = server::export_keys();
  const auto lock = std::ranges::find(keys, std::string("--no-lock"), &server::ExportKey::flag);
  CHECK(lock->help == "Lock the file against a second writer");
  CHECK(lock->flag_help() == "Do not lock the file against a second writer");
}

TEST_CASE("an export needs its file opened again for what the device depends on") {
  const auto one = server::ExportConfig{};
  auto reopened = std::set<std::string>{};
  for (const auto& key : server::export_keys()) {
    auto other = one;
    key.assign(other, other_value(key.type, key.name));
    if (!has_same_device(one, other)) reopened.insert(key.full_name());
  }
  CHECK(reopened == std::set<std::string>{"direct_io", "lock", "offset", "partition", "path",
                                          "read_only", "size"});
}
