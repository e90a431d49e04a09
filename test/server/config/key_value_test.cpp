#include "server/config/key_value.h"

#include <array>
#include <catch2/catch.hpp>

#include "server/base/user_error.h"

using server::flag_value;
using server::KeyType;
using server::KeyValue;
using server::UserError;
using Form = KeyType::Form;

namespace {

constexpr auto words = std::array<std::string_view, 2>{"off", "on"};
constexpr auto truth = KeyType{.form = Form::truth, .expected = "true or false"};
constexpr auto count = KeyType{.form = Form::count, .least = 1, .most = 5};
constexpr auto size = KeyType{.form = Form::size, .expected = "a size"};
constexpr auto rate = KeyType{.form = Form::rate, .expected = "a rate"};
constexpr auto seconds = KeyType{.form = Form::seconds, .most = 10};
constexpr auto text = KeyType{.form = Form::text, .expected = "a text"};
constexpr auto label = KeyType{.form = Form::label, .expected = "a number or a text"};
constexpr auto word = KeyType{.form = Form::word, .words = words};
constexpr auto list = KeyType{.form = Form::list, .expected = "a list of texts"};

// Each form, and the function that says what a value of it means.
struct Meaning {
  KeyType type;
  void (*take)(const KeyType& type, const KeyValue& value);
};
const auto meanings = {
    Meaning{truth, [](const KeyType& type, const KeyValue& value) { to_truth(type, value); }},
    Meaning{count, [](const KeyType& type, const KeyValue& value) { to_number(type, value); }},
    Meaning{size, [](const KeyType& type, const KeyValue& value) { to_number(type, value); }},
    Meaning{rate, [](const KeyType& type, const KeyValue& value) { to_number(type, value); }},
    Meaning{seconds, [](const KeyType& type, const KeyValue& value) { to_seconds(type, value); }},
    Meaning{text, [](const KeyType& type, const KeyValue& value) { to_text(type, value); }},
    Meaning{label, [](const KeyType& type, const KeyValue& value) { to_text(type, value); }},
    Meaning{word, [](const KeyType& type, const KeyValue& value) { to_word_index(type, value); }},
    Meaning{list, [](const KeyType& type, const KeyValue& value) { to_list(type, value); }},
};

}  // namespace

TEST_CASE("a value means what the type of its key says") {
  CHECK(to_truth(truth, true));
  CHECK(to_number(count, std::int64_t{5}) == 5);
  CHECK(to_number(size, std::int64_t{512}) == 512);
  CHECK(to_number(size, std::string("64K")) == 65536);
  CHECK(to_number(rate, std::string("1M")) == 1U << 20);
  CHECK(to_seconds(seconds, 0.5) == 0.5);
  CHECK(to_seconds(seconds, std::int64_t{10}) == 10);
  CHECK(to_text(text, std::string()).empty());
  CHECK(to_text(label, std::string("root")) == "root");
  CHECK(to_text(label, std::int64_t{2}) == "2");
  CHECK(to_word_index(word, std::string("on")) == 1);
  CHECK(to_list(list, std::vector<std::string>{"a", "b"}).size() == 2);
}

TEST_CASE("a value of the wrong kind is refused by every type") {
  const auto accepts_number = [](Form form) {
    return form == Form::count || form == Form::size || form == Form::rate ||
           form == Form::seconds || form == Form::label;
  };
  for (const auto& [type, take] : meanings) {
    CAPTURE(static_cast<int>(type.form));
    CHECK_THROWS_AS(take(type, {}), UserError);
    CHECK_THROWS_AS(take(type, std::int64_t{-1}), UserError);
    if (type.form != Form::truth) CHECK_THROWS_AS(take(type, true), UserError);
    if (type.form != Form::seconds) CHECK_THROWS_AS(take(type, 1.5), UserError);
    if (type.form != Form::list) CHECK_THROWS_AS(take(type, std::vector<std::string>{}), UserError);
    if (!accepts_number(type.form)) CHECK_THROWS_AS(take(type, std::int64_t{1}), UserError);
    if (type.form != Form::text && type.form != Form::label)
      CHECK_THROWS_AS(take(type, std::string("nonsense")), UserError);
  }
}

TEST_CASE("values beyond the bounds of a type are refused with the bounds") {
  CHECK_THROWS_WITH(to_number(count, std::int64_t{0}), Catch::Contains("from 1 to 5"));
  CHECK_THROWS_WITH(to_number(count, std::int64_t{6}), Catch::Contains("from 1 to 5"));
  CHECK_THROWS_WITH(to_number(rate, std::int64_t{0}), Catch::Contains("more than 0"));
  CHECK_THROWS_WITH(to_seconds(seconds, 10.5), Catch::Contains("from 0 to 10"));
  CHECK_THROWS_WITH(to_seconds(seconds, std::numeric_limits<double>::quiet_NaN()),
                    Catch::Contains("from 0 to 10"));
  CHECK_THROWS_WITH(to_text(label, std::string()), "expected a number or a text");
  CHECK_THROWS_WITH(to_text(label, std::int64_t{0}), "expected a number or a text");
  CHECK_THROWS_WITH(to_word_index(word, std::string("in")), "\"in\" is not one of off, on");
}

TEST_CASE("the check of a type is made of a text, and of each text of a list") {
  const auto refuse_x = [](std::string_view checked) {
    if (checked == "x") throw UserError("no x");
  };
  auto checked_text = text;
  checked_text.check = refuse_x;
  auto checked_list = list;
  checked_list.check = refuse_x;
  CHECK(to_text(checked_text, std::string("y")) == "y");
  CHECK_THROWS_WITH(to_text(checked_text, std::string("x")), "no x");
  CHECK_THROWS_WITH(to_list(checked_list, std::vector<std::string>{"y", "x"}), "no x");
}

TEST_CASE("the texts behind a flag become the value that a file would give") {
  CHECK(flag_value(count, {"3"}) == KeyValue(std::int64_t{3}));
  CHECK(flag_value(size, {"4K"}) == KeyValue(std::int64_t{4096}));
  CHECK(flag_value(rate, {"5"}) == KeyValue(std::int64_t{5}));
  CHECK(flag_value(seconds, {"0.5"}) == KeyValue(0.5));
  CHECK(flag_value(label, {"2"}) == KeyValue(std::string("2")));
  CHECK(flag_value(list, {"a", "b"}) == KeyValue(std::vector<std::string>{"a", "b"}));
  CHECK_THROWS_AS(flag_value(size, {"many"}), UserError);
  CHECK_THROWS_AS(to_number(count, *flag_value(count, {"3x"})), UserError);
}

TEST_CASE("a rate of 0 on the command line is no limit") { CHECK_FALSE(flag_value(rate, {"0"})); }
