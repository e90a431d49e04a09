// The program: parse, open, listen, run, drain.
#include <csignal>
#include <exception>
#include <iostream>
#include <variant>

#include "server/command_line.h"
#include "server/import_config.h"
#include "server/log.h"
#include "server/sandbox.h"
#include "server/server.h"

namespace {

constexpr int exit_status_refused = 1;

int serve(const server::Serve& serving) {
  server::log::start(serving.config.log_level);
  // Clients that vanish are answered by EPIPE, not by the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  auto sandbox = server::Sandbox(serving.config);
  auto instance = server::Server(serving.config, serving.reread);
  sandbox.close();
  return instance.run();
}

int check_config(const std::string& path) {
  server::check(server::read_config(path));
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
    const auto command = server::parse_command_line(argc, argv);
    if (const auto* const serving = std::get_if<server::Serve>(&command)) return serve(*serving);
    if (const auto* const checking = std::get_if<server::CheckConfig>(&command))
      return check_config(checking->path);
    if (const auto* const importing = std::get_if<server::ImportConfig>(&command))
      return import_config(importing->path);
    return std::get<server::Exit>(command).status;
  } catch (const std::exception& error) {
    std::cerr << "loopnbd: " << error.what() << '\n';
    return exit_status_refused;
  }
}
