#include "server/control/client/ctl_top.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "server/control/client/ctl_text.h"

namespace server {
namespace {

constexpr auto clear_screen = "\x1b[H\x1b[2J";

// Lines that fit, or all where there is no terminal.
std::size_t terminal_lines() {
  auto size = winsize{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2) return SIZE_MAX;
  return size.ws_row - 1U;
}

}  // namespace

int run_top(const Ctl& ctl, const std::function<boost::json::object()>& ask) {
  const auto in_terminal = ::isatty(STDOUT_FILENO) != 0;
  auto before = ask();
  auto asked_at = std::chrono::steady_clock::now();
  for (auto frame = std::uint64_t{1};; ++frame) {
    std::this_thread::sleep_for(std::chrono::duration<double>(ctl.interval_seconds));
    auto after = ask();
    const auto now = std::chrono::steady_clock::now();
    const auto seconds = std::chrono::duration<double>(now - asked_at).count();
    if (in_terminal) std::cout << clear_screen;
    std::cout << format_top(before, after, seconds, terminal_lines()) << std::flush;
    if (frame == ctl.frame_count) return 0;
    before = std::move(after);
    asked_at = now;
  }
}

}  // namespace server
