#include "server/control/client/ctl_command_line.h"

#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "server/config/export_argument.h"
#include "server/config/key_flags.h"
#include "server/config/parse_size.h"
#include "server/control/client/export_arguments.h"
#include "server/control/control_commands.h"

namespace server {
namespace {

namespace json = boost::json;
using Kind = ControlArgument::Kind;

// The request under construction. The callbacks of the App's options share it.
struct Asked : Ctl {
  json::object arguments;
  std::optional<ExportArgument> file;  // of a command that takes a named file
  KeyFlags<ExportConfig> export_flags = KeyFlags(export_keys());
};
using SharedAsked = std::shared_ptr<Asked>;

std::string absolute(const std::string& path) {
  // The server may have another working directory.
  return std::filesystem::absolute(path).string();
}

void take_named_file(Asked& asked, const std::string& text) {
  asked.file = parse_export_argument(text);
  asked.file->path = absolute(asked.file->path);
}

json::value value_of(const ControlArgument& argument, const std::string& text) {
  if (argument.kind == Kind::size) return parse_size(text);
  return json::value(argument.kind == Kind::path ? absolute(text) : text);
}

CLI::Option* add_number(CLI::App& command, const SharedAsked& asked,
                        const ControlArgument& argument) {
  auto* const option = command.add_option_function<std::uint64_t>(
      argument.flag,
      [asked, name = argument.name](const std::uint64_t& number) {
        asked->arguments[name] = number;
      },
      argument.help);
  if (argument.number_max != UINT64_MAX)
    option->check(CLI::Range(argument.number_min, argument.number_max));
  return option;
}

CLI::Option* add_text(CLI::App& command, const SharedAsked& asked,
                      const ControlArgument& argument) {
  auto* const option = command.add_option_function<std::string>(
      argument.flag,
      [asked, argument](const std::string& text) {
        if (argument.kind == Kind::named_file) return take_named_file(*asked, text);
        asked->arguments[argument.name] = value_of(argument, text);
      },
      argument.help);
  if (!argument.choices.empty()) option->check(CLI::IsMember(argument.choices));
  return option;
}

CLI::Option* add_argument(CLI::App& command, const SharedAsked& asked,
                          const ControlArgument& argument) {
  const auto& name = argument.name;
  if (!argument.chosen.empty())
    return command.add_flag_callback(
        argument.flag, [asked, name, chosen = argument.chosen] { asked->arguments[name] = chosen; },
        argument.help);
  switch (argument.kind) {
    case Kind::flag:
      return command.add_flag_callback(
          argument.flag, [asked, name] { asked->arguments[name] = true; }, argument.help);
    case Kind::real:
      return command.add_option_function<double>(
          argument.flag, [asked, name](const double& number) { asked->arguments[name] = number; },
          argument.help);
    case Kind::number:
      return add_number(command, asked, argument);
    default:
      return add_text(command, asked, argument);
  }
}

void add_arguments(CLI::App& command, const SharedAsked& asked, const ControlCommand& row) {
  auto* const target = row.one_argument ? command.add_option_group("which") : &command;
  auto of_one_name = std::map<std::string, CLI::Option*>{};
  for (const auto& argument : row.arguments) {
    if (argument.flag.empty()) continue;
    auto* const option = add_argument(*target, asked, argument);
    if (argument.needed) option->required();
    if (argument.kind == Kind::named_file) asked->export_flags.add_to(command);
    const auto [other, first] = of_one_name.emplace(argument.name, option);
    if (!first) option->excludes(other->second);
  }
  if (row.one_argument) target->require_option(1);
}

CLI::App* add_command(CLI::App& app, const SharedAsked& asked, const std::string& name,
                      const std::string& help, const std::string& requested) {
  auto* const command = app.add_subcommand(name, help)->fallthrough();
  command->callback([asked, name, requested] {
    asked->command = name;
    asked->arguments["command"] = requested;
    if (asked->file) put_export(asked->arguments, *asked->file, asked->export_flags);
    asked->request = json::serialize(asked->arguments) + '\n';
  });
  return command;
}

// The one command that the server does not know: it asks for the status again and again.
void add_top(CLI::App& app, const SharedAsked& asked) {
  auto* const top =
      add_command(app, asked, "top", "Exports and clients by load, until Ctrl-C", "status");
  top->add_option("--interval", asked->interval_seconds, "Seconds between two looks")
      ->check(CLI::Range(0.1, 30.0))
      ->capture_default_str();
  top->add_option("--count", asked->frame_count, "End after so many looks");
}

}  // namespace

std::shared_ptr<Ctl> add_ctl(CLI::App& app) {
  const auto asked = std::make_shared<Asked>();
  auto* const ctl = app.add_subcommand("ctl", "Look at a running server, and change it");
  ctl->add_option("--socket", asked->socket, "Its control socket")->capture_default_str();
  ctl->add_flag("--json", asked->json, "Print the result as one line of JSON");
  ctl->require_subcommand(1);
  for (const auto& row : control_commands())
    add_arguments(*add_command(*ctl, asked, row.name, row.help, row.name), asked, row);
  add_top(*ctl, asked);
  return asked;
}

}  // namespace server
