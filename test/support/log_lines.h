// The lines that are logged while it lives, "LEVEL: MESSAGE" each. For tests of one thread.
#pragma once

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace test {

class LogLines {
 public:
  LogLines() {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(text_);
    auto logger = std::make_shared<spdlog::logger>("test", std::move(sink));
    logger->set_pattern("%l: %v");
    logger->set_level(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
  }
  ~LogLines() { spdlog::set_default_logger(before_); }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;

  // The lines since the last call.
  std::vector<std::string> take() {
    auto lines = std::vector<std::string>{};
    for (std::string line; std::getline(text_, line);) lines.push_back(line);
    text_.clear();
    return lines;
  }

 private:
  std::stringstream text_;
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

}  // namespace test
