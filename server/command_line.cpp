#include "server/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/base/log_names.h"
#include "server/base/user_error.h"
#include "server/base/version.h"
#include "server/config/parse_size.h"
#include "server/config/read_config.h"
#include "server/config/validate.h"

namespace server {
namespace {

// What stands behind `loopnbd serve`, as text where the program parses it itself.
struct ServeFlags {
  std::string config_path;
  std::vector<std::string> listen;
  bool read_only = false;
  std::optional<std::string> offset;
  std::optional<std::string> size;
  std::string partition;
  std::string direct_io = "auto";
  bool no_lock = false;
  std::optional<std::uint32_t> workers;
  std::optional<std::uint32_t> busy_poll_us;
  std::optional<std::uint32_t> wake_latency_us;
  std::optional<std::string> memory;
  std::optional<std::uint32_t> connections_max;
  std::optional<std::string> control_socket;
  bool stdio = false;
  std::optional<std::string> log_level;
  std::optional<std::string> user;
  bool no_sandbox = false;
  std::optional<std::string> tls_mode;
  std::string tls_certificate;
  std::string tls_key;
  std::string tls_client_ca;
  std::string tls_psk_file;
  std::vector<std::string> allow;
  std::vector<std::string> read_only_for;
  std::uint32_t writers_max = 0;
  std::string description;
  std::map<std::string, std::string> rates;  // by their names
  std::optional<double> burst_seconds;
  std::optional<std::string> log_format;
  std::optional<std::uint32_t> slow_request_ms;
  std::optional<std::string> http;
  std::vector<std::string> files;
};

void add_limits(CLI::App& app, ServeFlags& flags) {
  for (const auto& rate : rates)
    app.add_option(rate.flag, flags.rates[rate.name],
                   fmt::format("{}, of each FILE; default: no limit", rate.what));
  app.add_option("--burst-seconds", flags.burst_seconds,
                 "How much of that may be used at once; default: 0.1")
      ->check(CLI::Range(0.0, burst_seconds_max));
}

RateLimits limits_of(const ServeFlags& flags) {
  auto limits = RateLimits{};
  for (const auto& rate : rates)
    if (const auto& text = flags.rates.at(rate.name); !text.empty())
      limits.*rate.value = parse_size(text);
  if (flags.burst_seconds) limits.burst_seconds = *flags.burst_seconds;
  return limits;
}

void add_round_trip(CLI::App& app, ServeFlags& flags) {
  app.add_option("--busy-poll-us", flags.busy_poll_us,
                 "Look for requests so many microseconds before sleeping: a shorter round trip for "
                 "CPU time; default: 0")
      ->check(CLI::Range(0U, busy_poll_us_max));
  app.add_option("--wake-latency-us", flags.wake_latency_us,
                 "While clients are at work, let no processor of the machine sleep so deeply that "
                 "waking it takes longer: a shorter round trip for power; needs root at the start. "
                 "Default: no limit")
      ->check(CLI::Range(0U, wake_latency_us_max));
}

void add_serve(CLI::App& app, ServeFlags& flags) {
  app.add_option("FILE", flags.files,
                 "[NAME=]FILE: an image or block device to export. The export is called NAME, or "
                 "like the file "
                 "without its folders; the empty export name selects the first one");
  app.add_option("--config", flags.config_path, "TOML file with listen addresses and exports");
  app.add_option(
         "--listen", flags.listen,
         "HOST:PORT, [IPv6]:PORT, unix:PATH or vsock:PORT; may be given several times. Default: "
         "127.0.0.1:10809, or the sockets that systemd passes")
      ->allow_extra_args(false);
  app.add_option("--description", flags.description, "What clients are told about the FILEs");
  app.add_flag("--read-only", flags.read_only, "Refuse writes to the FILEs");
  app.add_option("--offset", flags.offset,
                 "Where the export begins in each FILE, in bytes (K, M, G, T)");
  app.add_option("--size", flags.size,
                 "How long the export is; default: up to the end of the file");
  app.add_option("--partition", flags.partition,
                 "Export this partition of each FILE: its number, label or UUID")
      ->check(CLI::Validator(
          [](const std::string& text) { return text.empty() ? "it is empty" : ""; }, ""));
  app.add_option("--direct-io", flags.direct_io,
                 "auto: past the page cache where the file system can; on: or refuse to start; "
                 "off: through it")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app.add_flag("--no-lock", flags.no_lock, "Do not lock the FILEs against a second writer");
  app.add_option(
         "--workers", flags.workers,
         "Threads that serve connections; default: the usable cores, in a container its quota")
      ->check(CLI::Range(1U, workers_max));
  app.add_option(
      "--memory", flags.memory,
      "Budget for data in flight; default: 64M or 4M a worker; less in a small container");
  app.add_option("--max-connections", flags.connections_max,
                 "Connections served at once; default: 1000")
      ->check(CLI::Range(1U, 1U << 20));
  add_round_trip(app, flags);
  app.add_option("--control", flags.control_socket,
                 "Unix socket to listen on for loopnbd ctl; default: none");
  app.add_flag("--stdio", flags.stdio, "Serve one client on standard input and output, then end");
  app.add_option("--log-level", flags.log_level, "Log what is at least so important; default: info")
      ->check(CLI::IsMember(std::vector<std::string>(log::levels().begin(), log::levels().end())));
  app.add_option("--log-format", flags.log_format,
                 "text or json (one object a line); default: text")
      ->check(
          CLI::IsMember(std::vector<std::string>(log::formats().begin(), log::formats().end())));
  app.add_option("--slow-request-ms", flags.slow_request_ms,
                 "Log requests that take longer, and where their time went; 0: none. Default: 1000")
      ->check(CLI::Range(0U, slow_request_ms_max));
  app.add_option("--http", flags.http,
                 "HOST:PORT or unix:PATH for /metrics, /status, /healthz and /readyz; default: not "
                 "served");
}

void add_security(CLI::App& app, ServeFlags& flags) {
  app.add_option("--user", flags.user, "Become this user when files and sockets are open");
  app.add_flag("--no-sandbox", flags.no_sandbox,
               "Keep what serving does not need: running programs, making files, …");
  app.add_option("--tls", flags.tls_mode,
                 "off, allow (clients may use TLS) or require; default: require when a certificate "
                 "or a file of keys is given")
      ->check(CLI::IsMember({"off", "allow", "require"}));
  app.add_option("--tls-certificate", flags.tls_certificate,
                 "The server's certificate, and those that lead to its authority (PEM)");
  app.add_option("--tls-key", flags.tls_key,
                 "The certificate's private key; default: in the same file");
  app.add_option("--tls-client-ca", flags.tls_client_ca,
                 "Authority of the certificates that clients must show");
  app.add_option("--tls-psk-file", flags.tls_psk_file,
                 "Users and their pre-shared keys, as psktool writes them");
  app.add_option(
         "--allow", flags.allow,
         "Who may use the FILEs: a network (10.0.0.0/8), cert:CN=NAME, psk:USER, uid:NUMBER "
         "or gid:NUMBER; may be given several times. Default: everybody")
      ->allow_extra_args(false);
  app.add_option("--read-only-for", flags.read_only_for, "Who of them may only read; as --allow")
      ->allow_extra_args(false);
  app.add_option("--writers", flags.writers_max,
                 "Client addresses that may write to a FILE at the same time; others read. "
                 "Default: all")
      ->check(CLI::Range(1U, writers_max));
}

TlsConfig tls_of(const ServeFlags& flags, TlsConfig config) {
  const auto use = [](std::string& value, const std::string& flag) {
    if (!flag.empty()) value = flag;
  };
  use(config.certificate, flags.tls_certificate);
  use(config.key, flags.tls_key);
  use(config.client_ca, flags.tls_client_ca);
  use(config.psk_file, flags.tls_psk_file);
  if (flags.tls_mode) {
    config.mode = parse_tls_mode(*flags.tls_mode);
  } else if (!flags.tls_certificate.empty() || !flags.tls_psk_file.empty()) {
    config.mode = proto::TlsMode::require;
  }
  return config;
}

ExportConfig export_of(const std::string& argument, const ServeFlags& flags) {
  auto config = ExportConfig{};
  // A NAME has no slash, so that a path with an equals sign in a folder's name stays a path.
  const auto equals = argument.find('=');
  const auto slash = argument.find('/');
  const auto named = equals != std::string::npos && (slash == std::string::npos || equals < slash);
  config.path = named ? argument.substr(equals + 1) : argument;
  config.name = named ? argument.substr(0, equals) : argument.substr(argument.rfind('/') + 1);
  if (config.path.empty() || config.name.empty())
    throw UserError(fmt::format("\"{}\": expected FILE or NAME=FILE", argument));
  config.read_only = flags.read_only;
  config.lock = !flags.no_lock;
  config.direct_io = parse_direct_io(flags.direct_io);
  if (flags.offset) config.offset = parse_size(*flags.offset);
  if (flags.size) config.size = parse_size(*flags.size);
  config.partition = flags.partition;
  for (const auto& text : flags.allow) config.access.allow.push_back(parse_client_pattern(text));
  for (const auto& text : flags.read_only_for)
    config.access.read_only_for.push_back(parse_client_pattern(text));
  config.writers_max = flags.writers_max;
  config.description = flags.description;
  config.limits = limits_of(flags);
  return config;
}

// Of the command line, what is wrong and where help is.
std::string describe_failure(const CLI::App* app, const CLI::Error& error) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  auto what = std::string(error.what());
  const auto commands = app->get_subcommands([](const CLI::App*) { return true; });
  if (error.get_name() == "RequiredError" && !commands.empty()) {
    auto names = std::vector<std::string>{};
    for (const auto* const command : commands) names.push_back(command->get_name());
    const auto words = app->remaining(true);
    what = fmt::format("{}; there are {}",
                       words.empty() ? "a command is missing"
                                     : fmt::format("\"{}\" is not a command", words.front()),
                       fmt::join(names, ", "));
  }
  return fmt::format("loopnbd: {}\nRun with --help for more information.\n", what);
}

Config config_of(const ServeFlags& flags) {
  auto config = flags.config_path.empty() ? Config{} : read_config(flags.config_path);
  if (!flags.listen.empty()) config.listen = flags.listen;
  if (flags.workers) config.workers = *flags.workers;
  if (flags.busy_poll_us) config.busy_poll_us = *flags.busy_poll_us;
  if (flags.wake_latency_us) config.wake_latency_us = flags.wake_latency_us;
  if (flags.memory) {
    config.memory = parse_size(*flags.memory);
    config.places.by_key.erase("memory");
  }
  if (flags.connections_max) config.connections_max = *flags.connections_max;
  if (flags.log_level) config.log_level = *flags.log_level;
  if (flags.user) config.user = *flags.user;
  if (flags.no_sandbox) config.sandbox = false;
  config.tls = tls_of(flags, std::move(config.tls));
  if (flags.control_socket) config.control_socket = *flags.control_socket;
  if (flags.log_format) config.log_format = *flags.log_format;
  if (flags.slow_request_ms) config.slow_request_ms = *flags.slow_request_ms;
  if (flags.http) config.http_listen = *flags.http;
  config.stdio = flags.stdio;
  for (const auto& file : flags.files) config.exports.push_back(export_of(file, flags));
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
  add_limits(*serve, flags);
  add_security(*serve, flags);
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
