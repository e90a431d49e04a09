// The table of all settings: of the server, and of an export. A row says how a setting is called in
// the file and on the command line, what it may be, what it is when nobody gives it, what puts a
// new value into use, and where it is kept. The reader of the file, the flags and their help, `ctl
// add`, reloads and the lists of the manual pages all go through these rows. Constant; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/config/config.h"
#include "server/config/key_value.h"

namespace server {

// The part of a running server that puts a new value into use in a reload, or a restart.
enum class Effect : std::uint8_t {
  tls,
  listeners,
  log,
  exports,
  reopen,  // the exports, by opening the file of the export again
  restart,
};

// "Do not lock it", of "Lock it".
std::string negation_of(std::string phrase);

template <typename Owner>
struct Key {
  std::string table;  // the table around it in the file; empty: none
  std::string name;
  std::string flag;  // empty: the key has none
  KeyType type;
  Effect effect = Effect::restart;
  std::string default_text;  // for people; empty: not worth saying
  std::string help;          // a phrase
  std::string manual;        // sentences behind it in the manual pages; may be empty
  void (*assign_field)(Owner& owner, const KeyType& type, const KeyValue& value) = nullptr;
  bool (*same_field)(const Owner& one, const Owner& other) = nullptr;
  void (*copy_field)(Owner& to, const Owner& from) = nullptr;

  // As "control.socket".
  std::string full_name() const { return table.empty() ? name : table + '.' + name; }
  // Throws std::runtime_error that says why it cannot be this value.
  void assign(Owner& owner, const KeyValue& value) const { assign_field(owner, type, value); }
  bool same(const Owner& one, const Owner& other) const { return same_field(one, other); }
  void copy(Owner& to, const Owner& from) const { copy_field(to, from); }
  // A truth that its flag makes false: the help says what is so without the flag.
  bool negated() const { return flag.starts_with("--no-"); }
  std::string flag_help() const { return negated() ? negation_of(help) : help; }
};

using ServerKey = Key<Config>;
using ExportKey = Key<ExportConfig>;

std::span<const ServerKey> server_keys();
// The keys without a flag, name and path, are what [NAME=]FILE says.
std::span<const ExportKey> export_keys();

// The keys of a table, and the tables in it, in the order of the rows.
template <typename Owner>
std::vector<std::string> known_names(std::span<const Key<Owner>> keys, std::string_view table) {
  auto names = std::vector<std::string>{};
  for (const auto& key : keys) {
    if (key.table == table) names.push_back(key.name);
    if (table.empty() && !key.table.empty() && (names.empty() || names.back() != key.table))
      names.push_back(key.table);
  }
  return names;
}

// The full names of the keys that have changed and wait for a restart.
std::vector<std::string> keys_for_restart(const Config& now, const Config& then);

// Copies the values of all keys that wait for no restart.
void take_over(Config& now, const Config& then);

// Whether a device opened for one export serves the other as well.
bool has_same_device(const ExportConfig& one, const ExportConfig& other);

}  // namespace server
