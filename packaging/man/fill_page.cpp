// Makes a manual page of its template. The lists of keys and flags come from the tables that the
// program reads its configuration with (server/config/keys.h), so that a key is described once.
//
//     loopnbd_manual TEMPLATE PAGE
//
// A line of the template that is the name of a list between two @ stands for the list. Each list
// stands in one of the two pages.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "server/config/keys.h"

namespace {

using server::Effect;
using server::Key;
using server::KeyType;
using Form = KeyType::Form;

std::string upper(std::string_view text) {
  auto result = std::string(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char letter) { return std::toupper(letter); });
  return result;
}

std::string_view noun_of(const KeyType& type) {
  if (!type.noun.empty()) return type.noun;
  switch (type.form) {
    case Form::count:
      return "number";
    case Form::size:
      return "size";
    case Form::rate:
      return "rate";
    case Form::seconds:
      return "seconds";
    case Form::truth:
      return "true or false";
    case Form::word:
      return "word";
    case Form::text:
    case Form::label:
    case Form::list:
      return "text";
  }
  return {};
}

// Text that the formatter takes for text, each sentence on a line of its own.
std::string as_lines(std::string_view text) {
  auto lines = std::string();
  auto at_start = true;
  for (const auto letter : text) {
    if (letter == ' ' && lines.ends_with('.')) {
      lines += '\n';
      at_start = true;
      continue;
    }
    if (at_start && (letter == '.' || letter == '\'')) lines += "\\&";
    at_start = false;
    lines += letter;
    if (letter == '\\') lines += 'e';
  }
  return lines + '\n';
}

// The values that there are, where that is not clear from its noun.
std::string values_of(const KeyType& type) {
  if (type.form == Form::word) return fmt::format("One of {}.", fmt::join(type.words, ", "));
  if (type.form == Form::count && type.most < 10'000)
    return fmt::format("From {} to {}.", type.least, type.most);
  if (type.form == Form::seconds) return fmt::format("Up to {}.", type.most);
  return {};
}

template <typename Owner>
std::string description_of(const Key<Owner>& key, const std::string& help) {
  auto lines = as_lines(help + '.');
  for (const auto& text : {key.manual, values_of(key.type)})
    if (!text.empty()) lines += as_lines(text);
  if (!key.default_text.empty()) lines += as_lines("The default is " + key.default_text + '.');
  return lines;
}

template <typename Owner>
std::string list_of_flags(std::span<const Key<Owner>> keys) {
  auto list = std::string(".Bl -tag -width Ds\n");
  for (const auto& key : keys) {
    if (key.flag.empty()) continue;
    list += fmt::format(".It Fl Fl {}", key.flag.substr(2));
    if (key.type.form != Form::truth) list += " Ar " + upper(noun_of(key.type));
    list += '\n' + description_of(key, key.flag_help());
    if (key.type.form == Form::list) list += "May be given several times.\n";
  }
  return list + ".El\n";
}

template <typename Owner>
std::string list_of_keys(std::span<const Key<Owner>> keys) {
  auto list = std::string(".Bl -tag -width Ds\n");
  for (const auto& key : keys) {
    list += fmt::format(".It Ic {} Li = ", key.full_name());
    list += key.type.form == Form::list ? fmt::format("[ Ar {} , ... ]\n", noun_of(key.type))
                                        : fmt::format("Ar {}\n", noun_of(key.type));
    list += description_of(key, key.help);
    if (key.type.form == Form::truth) list += fmt::format("The default is {}.\n", key.negated());
    if (key.effect == Effect::restart) list += "A new value needs a restart.\n";
  }
  return list + ".El\n";
}

void fill(std::istream& page_template, std::ostream& page) {
  const auto lists = std::map<std::string, std::string>{
      {"@flags of the server@", list_of_flags(server::server_keys())},
      {"@flags of the exports@", list_of_flags(server::export_keys())},
      {"@keys of the server@", list_of_keys(server::server_keys())},
      {"@keys of an export@", list_of_keys(server::export_keys())},
  };
  for (auto line = std::string(); std::getline(page_template, line);)
    page << (line.starts_with('@') ? lists.at(line) : line + '\n');
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count != 3) throw std::runtime_error("usage: loopnbd_manual TEMPLATE PAGE");
    auto page_template = std::ifstream(arguments[1]);
    auto page = std::ofstream(arguments[2]);
    if (!page_template || !page)
      throw std::runtime_error(fmt::format("cannot open {} or {}", arguments[1], arguments[2]));
    fill(page_template, page);
    if (!page.flush()) throw std::runtime_error(fmt::format("cannot write {}", arguments[2]));
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "loopnbd_manual: " << error.what() << '\n';
    return 1;
  }
}
