#include "server/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/base/version.h"
#include "server/config/export_argument.h"
#include "server/config/key_flags.h"
#include "server/config/read_config.h"
#include "server/config/validate.h"

namespace server {
namespace {

// The command line behind `loopnbd serve`.
struct ServeFlags {
  std::string config_path;
  bool stdio = false;
  std::vector<std::string> files;
  KeyFlags<Config> server = KeyFlags(server_keys());
  KeyFlags<ExportConfig> each_file = KeyFlags(export_keys());
};

void add_serve(CLI::App& app, ServeFlags& flags) {
  app.add_option("FILE", flags.files,
                 "[NAME=]FILE: an image or block device to export. The export is called NAME, or "
                 "like the file "
                 "without its folders; the empty export name selects the first one");
  app.add_option("--config", flags.config_path, "TOML file with listen addresses and exports");
  app.add_flag("--stdio", flags.stdio, "Serve one client on standard input and output, then end");
  flags.server.add_to(app);
  flags.each_file.add_to(app);
}

// The thing that is missing behind the words of the command line: a command, or one of some
// options.
std::string describe_missing(const CLI::App& app) {
  auto commands = std::vector<std::string>{};
  auto options = std::vector<std::string>{};
  for (const auto* const part : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!part->get_name().empty()) {
      commands.push_back(part->get_name());
      continue;
    }
    // A group, one of whose options is needed.
    for (const auto* const option : part->get_options())
      if (option != part->get_help_ptr()) options.push_back(option->get_name());
  }
  if (commands.empty())
    return fmt::format("{}: give one of {}", app.get_name(), fmt::join(options, ", "));
  const auto words = app.remaining(true);
  return fmt::format("{}; there are {}",
                     words.empty() ? "a command is missing"
                                   : fmt::format("\"{}\" is not a command", words.front()),
                     fmt::join(commands, ", "));
}

// Of the command line, what is wrong and where help is.
std::string describe_failure(const CLI::App* app, const CLI::Error& error) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  const auto has_parts = !app->get_subcommands([](const CLI::App*) { return true; }).empty();
  const auto what = error.get_name() == "RequiredError" && has_parts ? describe_missing(*app)
                                                                     : std::string(error.what());
  return fmt::format("loopnbd: {}\nRun with --help for more information.\n", what);
}

Config config_of(const ServeFlags& flags) {
  auto config = flags.config_path.empty() ? Config{} : read_config(flags.config_path);
  flags.server.apply(config);
  // An operator who gives the server a key and no mode wants the key to be used.
  if (!flags.server.is_given("--tls") &&
      (flags.server.is_given("--tls-certificate") || flags.server.is_given("--tls-psk-file")))
    config.tls.mode = proto::TlsMode::require;
  config.stdio = flags.stdio;
  for (const auto& file : flags.files) {
    auto [name, path] = parse_export_argument(file);
    auto& entry = config.exports.emplace_back();
    entry.name = std::move(name);
    entry.path = std::move(path);
    flags.each_file.apply(entry);
  }
  validate(config);
  return config;
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  auto app = CLI::App(
      "loopnbd serves disk images and block devices over NBD, with direct asynchronous I/O.");
  app.set_version_flag("--version", fmt::format("loopnbd {}", version));
  app.require_subcommand(1);
  app.failure_message(describe_failure);
  auto flags = ServeFlags{};
  auto* const serve = app.add_subcommand("serve", "Serve files until SIGTERM or SIGINT");
  add_serve(*serve, flags);
  auto check = CheckConfig{};
  auto* const check_config =
      app.add_subcommand("check-config", "Say whether a configuration would be accepted");
  check_config->add_option("FILE", check.path, "The TOML file")->required();
  auto importing = ImportConfig{"/etc/nbd-server/config"};
  auto* const import_config = app.add_subcommand(
      "import-config", "Translate the configuration of nbd-server, to standard output");
  import_config->add_option("FILE", importing.path, "nbd-server's file")->capture_default_str();
  const auto attach = AttachCommandLine(app);
  const auto ctl = add_ctl(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return Exit{app.exit(error) == 0 ? 0 : 2};
  }
  if (check_config->parsed()) return check;
  if (!ctl->command.empty()) return *ctl;
  if (import_config->parsed()) return importing;
  if (const auto command = attach.parsed()) return *command;
  auto serving = Serve{.config = config_of(flags), .reread = {}};
  if (!flags.config_path.empty()) serving.reread = [flags] { return config_of(flags); };
  return serving;
}

}  // namespace server
