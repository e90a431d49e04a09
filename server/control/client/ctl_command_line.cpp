#include "server/control/client/ctl_command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "server/base/log_names.h"
#include "server/config/export_argument.h"
#include "server/config/key_flags.h"
#include "server/config/parse_size.h"
#include "server/control/client/export_arguments.h"
#include "server/policy/rate_limiter.h"

namespace server {
namespace {

namespace json = boost::json;

// What the subcommands' flags are parsed into; lives as long as the App that refers to it.
struct Flags : Ctl {
  KeyFlags<ExportConfig> export_keys = KeyFlags(server::export_keys());
  json::object arguments;
  std::string name;
  std::string file;
  std::string mode;
  std::optional<std::string> size;
  std::optional<std::uint64_t> number;
  std::optional<double> burst_seconds;
  std::map<std::string, std::string> rates;
  bool per_client = false;
  bool force = false;
  bool drain = false;
  bool now = false;
};

// A subcommand whose arguments `fill` takes over after parsing.
CLI::App* add_command(
    CLI::App& app, const std::shared_ptr<Flags>& flags, const char* name, const char* what,
    std::function<void(Flags&)> fill = [](Flags&) {}) {
  auto* const command = app.add_subcommand(name, what)->fallthrough();
  command->callback([name, fill = std::move(fill), weak = std::weak_ptr(flags)] {
    const auto filled = weak.lock();
    filled->command = name;
    filled->arguments["command"] = name;
    fill(*filled);
    filled->request = json::serialize(filled->arguments) + '\n';
  });
  return command;
}

void add_departure(CLI::App& command, Flags& flags, const char* drain) {
  auto* const gently = command.add_flag("--drain", flags.drain, drain);
  command.add_flag("--now", flags.now, "Disconnect their clients at once")->excludes(gently);
}

void fill_departure(Flags& flags) {
  if (flags.drain) flags.arguments["departure"] = "drain";
  if (flags.now) flags.arguments["departure"] = "now";
}

void fill_export(Flags& flags) {
  auto argument = parse_export_argument(flags.file);
  // The server may have another working directory.
  argument.path = std::filesystem::absolute(argument.path).string();
  put_export(flags.arguments, argument, flags.export_keys);
}

void add_exports(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  auto* const reload =
      add_command(app, flags, "reload", "Read the configuration again", fill_departure);
  add_departure(*reload, *flags, "Let clients of changed and removed exports finish, then go");
  auto* const add = add_command(app, flags, "add", "Offer another file", fill_export);
  add->add_option("FILE", flags->file, "[NAME=]FILE")->required();
  flags->export_keys.add_to(*add);
  auto* const remove =
      add_command(app, flags, "remove", "Offer an export no longer", [](Flags& filled) {
        filled.arguments["export"] = filled.name;
        fill_departure(filled);
      });
  remove->add_option("EXPORT", flags->name)->required();
  add_departure(*remove, *flags, "Let its clients finish what they have sent, then go (default)");
}

void add_clients(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  auto* const disconnect =
      add_command(app, flags, "disconnect", "End connections at once", [](Flags& filled) {
        if (filled.number) filled.arguments["connection"] = *filled.number;
        if (!filled.name.empty()) filled.arguments["export"] = filled.name;
      });
  auto* const which = disconnect->add_option_group("which");
  which->add_option("CONNECTION", flags->number, "Its number, as `connections` shows it");
  which->add_option("--export", flags->name, "All connections of an export");
  which->require_option(1);
  auto* const drain =
      add_command(app, flags, "drain",
                  "Let clients finish what they have sent, then end the server", [](Flags& filled) {
                    if (!filled.name.empty()) filled.arguments["export"] = filled.name;
                  });
  drain->add_option("EXPORT", flags->name, "End only the connections of this export");
  auto* const level = add_command(app, flags, "log-level", "Log more or less",
                                  [](Flags& filled) { filled.arguments["level"] = filled.mode; });
  level->add_option("LEVEL", flags->mode)
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>(log::levels().begin(), log::levels().end())));
}

// A subcommand with the name of an export as its first argument.
CLI::App* add_on_export(
    CLI::App& app, const std::shared_ptr<Flags>& flags, const char* name, const char* what,
    std::function<void(Flags&)> fill = [](Flags&) {}) {
  auto* const command =
      add_command(app, flags, name, what, [fill = std::move(fill)](Flags& filled) {
        filled.arguments["export"] = filled.name;
        fill(filled);
      });
  command->add_option("EXPORT", flags->name)->required();
  return command;
}

void add_devices(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  auto* const resize = add_on_export(
      app, flags, "resize", "Give an export another size, for clients that attach from now on",
      [](Flags& filled) {
        if (filled.size) filled.arguments["size"] = parse_size(*filled.size);
        if (filled.force) filled.arguments["force"] = true;
      });
  resize->add_option(
      "SIZE", flags->size,
      "In bytes (K, M, G, T); a file is made longer for it. Default: all of the file");
  resize->add_flag("--force", flags->force, "Even if smaller; its clients are disconnected");
  auto* const direct_io =
      add_on_export(app, flags, "direct-io", "Serve past the page cache, or through it",
                    [](Flags& filled) { filled.arguments["mode"] = filled.mode; });
  direct_io->add_option("MODE", flags->mode)->required()->check(CLI::IsMember({"on", "off"}));
  auto* const swap = add_on_export(
      app, flags, "swap", "Put another file of the same size under a read-only export",
      [](Flags& filled) {
        filled.arguments["path"] = std::filesystem::absolute(filled.file).string();
      });
  swap->add_option("FILE", flags->file)->required();
  auto* const pause = add_on_export(
      app, flags, "pause", "Sync, and begin no request until resume: for a consistent snapshot",
      [](Flags& filled) {
        if (filled.number) filled.arguments["seconds"] = *filled.number;
      });
  pause->add_option("--for", flags->number, "Resume by itself after so many seconds; default: 60")
      ->check(CLI::Range(1, 3600));
  add_on_export(app, flags, "resume", "End a pause");
}

void add_limit(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  auto* const limit = add_on_export(
      app, flags, "limit", "Limit an export's rates; what is not named stays, 0 ends a limit",
      [](Flags& filled) {
        if (filled.per_client) filled.arguments["per_client"] = true;
        for (const auto& [key, rate] : filled.rates) filled.arguments[key] = parse_size(rate);
        if (filled.burst_seconds) filled.arguments["burst_seconds"] = *filled.burst_seconds;
      });
  limit->add_flag("--per-client", flags->per_client, "Of each client address, not of all together");
  for (const auto& rate : rates)
    limit->add_option_function<std::string>(
        rate.flag,
        [weak = std::weak_ptr(flags), name = rate.name](const std::string& text) {
          weak.lock()->rates[name] = text;
        },
        rate.what);
  limit->add_option("--burst-seconds", flags->burst_seconds,
                    "How much of it may be used at once; default: 0.1");
}

void add_views(CLI::App& app, const std::shared_ptr<Flags>& flags) {
  add_command(app, flags, "status", "What it serves, how, and to how many");
  add_command(app, flags, "connections", "Its clients, and what they have done");
  auto* const top = add_command(app, flags, "top", "Exports and clients by load, until Ctrl-C",
                                [](Flags& filled) {
                                  filled.top = true;
                                  filled.arguments["command"] = "status";
                                });
  top->add_option("--interval", flags->interval_seconds, "Seconds between two looks")
      ->check(CLI::Range(0.1, 30.0))
      ->capture_default_str();
  top->add_option("--count", flags->frame_count, "End after so many looks");
}

}  // namespace

std::shared_ptr<Ctl> add_ctl(CLI::App& app) {
  const auto flags = std::make_shared<Flags>();
  auto* const ctl = app.add_subcommand("ctl", "Look at a running server, and change it");
  ctl->add_option("--socket", flags->socket, "Its control socket")->capture_default_str();
  ctl->add_flag("--json", flags->json, "Print the result as one line of JSON");
  ctl->require_subcommand(1);
  add_views(*ctl, flags);
  add_exports(*ctl, flags);
  add_devices(*ctl, flags);
  add_limit(*ctl, flags);
  add_clients(*ctl, flags);
  return flags;
}

}  // namespace server
