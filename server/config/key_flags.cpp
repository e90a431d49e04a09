#include "server/config/key_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <utility>

#include "server/base/user_error.h"

namespace server {
namespace {

using Form = KeyType::Form;

// Bounds and words are checked by the parser of the command line, and shown in the help.
void add_check(CLI::Option& option, const KeyType& type) {
  if (type.form == Form::count) option.check(CLI::Range(type.least, type.most));
  if (type.form == Form::seconds) option.check(CLI::Range(0.0, static_cast<double>(type.most)));
  if (type.form == Form::word)
    option.check(CLI::IsMember(std::vector<std::string>(type.words.begin(), type.words.end())));
}

template <typename Owner>
std::string help_of(const Key<Owner>& key) {
  auto help = key.flag_help();
  if (key.type.form == Form::list) help += "; may be given several times";
  if (!key.default_text.empty()) help += "; default: " + key.default_text;
  return help;
}

}  // namespace

template <typename Owner>
void KeyFlags<Owner>::add_to(CLI::App& command) {
  for (const auto& key : keys_) {
    if (key.flag.empty()) continue;
    const auto help = help_of(key);
    if (key.type.form == Form::truth) {
      command.add_flag_callback(
          key.flag, [this, &key] { texts_[key.flag]; }, help);
      continue;
    }
    if (key.type.form == Form::list) {
      const auto add = [this, &key](const std::vector<std::string>& texts) {
        texts_[key.flag] = texts;
      };
      command.add_option_function<std::vector<std::string>>(key.flag, add, help)
          ->allow_extra_args(false);
      continue;
    }
    const auto set = [this, &key](const std::string& text) { texts_[key.flag] = {text}; };
    add_check(*command.add_option_function<std::string>(key.flag, set, help), key.type);
  }
}

template <typename Owner>
std::vector<typename KeyFlags<Owner>::Given> KeyFlags<Owner>::given() const {
  auto all = std::vector<Given>{};
  for (const auto& key : keys_) {
    const auto texts = texts_.find(key.flag);
    if (key.flag.empty() || texts == texts_.end()) continue;
    if (key.type.form == Form::truth) {
      all.push_back({&key, !key.negated()});
      continue;
    }
    try {
      auto value = flag_value(key.type, texts->second);
      if (value) all.push_back({&key, *std::move(value)});
    } catch (const std::runtime_error& error) {
      throw UserError(fmt::format("{}: {}", key.flag, error.what()));
    }
  }
  return all;
}

template <typename Owner>
void KeyFlags<Owner>::apply(Owner& owner) const {
  for (const auto& [key, value] : given()) {
    try {
      key->assign(owner, value);
    } catch (const std::runtime_error& error) {
      throw UserError(fmt::format("{}: {}", key->flag, error.what()));
    }
    // The file no longer says it.
    if (key->table.empty()) owner.places.by_key.erase(key->name);
  }
}

template class KeyFlags<Config>;
template class KeyFlags<ExportConfig>;

}  // namespace server
