// The program: parse, open, listen, run, drain.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <iostream>
#include <system_error>
#include <variant>

#include "server/attach/attach.h"
#include "server/base/log.h"
#include "server/command_line.h"
#include "server/config/import_config.h"
#include "server/config/read_config.h"
#include "server/control/client/ctl.h"
#include "server/export/open_export.h"
#include "server/process/sandbox.h"
#include "server/server.h"

namespace {

constexpr int exit_status_refused = 1;

// A disk image that is opened while a standard stream is closed takes its place, and what is meant
// for people would be written into it.
void occupy_standard_streams() {
  for (const auto stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) < 0)
      throw std::system_error(errno, std::generic_category(),
                              "a standard stream is closed, and /dev/null cannot be opened for it");
}

// Each connection is an open file, and the limit that shells and service managers begin with is
// small.
void allow_many_files() {
  auto limit = rlimit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int serve(const server::Serve& serving) {
  server::log::start(serving.config.log_level, serving.config.log_format);
  // Clients that vanish are answered by EPIPE, not by the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  // Writes beyond a limit on the size of files fail with EFBIG.
  std::signal(SIGXFSZ, SIG_IGN);
  allow_many_files();
  auto sandbox = server::Sandbox(serving.config, server::sandbox_needs(serving.config.exports));
  auto instance = server::Server(serving.config, serving.reread);
  sandbox.close();
  return instance.run();
}

int check_config(const std::string& path) {
  const auto config = server::read_config(path);
  server::log::start(config.log_level);
  server::check(config);
  std::cout << path << ": the configuration is valid\n";
  return 0;
}

int import_config(const std::string& path) {
  const auto imported = server::import_config(path);
  for (const auto& note : imported.notes) std::cerr << "loopnbd: note: " << note << '\n';
  std::cout << imported.toml;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    occupy_standard_streams();
    const auto command = server::parse_command_line(argc, argv);
    if (const auto* const serving = std::get_if<server::Serve>(&command)) return serve(*serving);
    if (const auto* const checking = std::get_if<server::CheckConfig>(&command))
      return check_config(checking->path);
    if (const auto* const importing = std::get_if<server::ImportConfig>(&command))
      return import_config(importing->path);
    if (const auto* const attaching = std::get_if<server::AttachCommand>(&command))
      return server::run(*attaching);
    if (const auto* const asking = std::get_if<server::Ctl>(&command))
      return server::run_ctl(*asking);
    return std::get<server::Exit>(command).status;
  } catch (const std::exception& error) {
    std::cerr << "loopnbd: " << error.what() << '\n';
    return exit_status_refused;
  }
}
