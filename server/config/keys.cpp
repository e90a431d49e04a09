#include "server/config/keys.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <iterator>
#include <optional>
#include <type_traits>
#include <utility>

#include "server/base/log_names.h"
#include "server/base/user_error.h"
#include "server/config/validate.h"
#include "server/net/listen_address.h"
#include "server/policy/rate_limiter.h"

namespace server {
namespace {

using Form = KeyType::Form;

// The types that several keys have.
constexpr auto truth_type = KeyType{.form = Form::truth, .expected = "true or false"};
constexpr auto text_type = KeyType{.form = Form::text, .expected = "a text"};
constexpr auto user_type = KeyType{.form = Form::text, .expected = "a text", .noun = "user"};
constexpr auto size_type =
    KeyType{.form = Form::size, .expected = "a size such as 1048576 or \"64M\""};
constexpr auto rate_type =
    KeyType{.form = Form::rate, .expected = "a number a second such as 5000 or \"100M\""};

constexpr KeyType count_type(std::uint32_t least, std::uint32_t most) {
  return {.form = Form::count, .expected = "a whole number", .least = least, .most = most};
}

constexpr KeyType word_type(std::span<const std::string_view> words) {
  return {.form = Form::word, .words = words};
}

constexpr auto seconds_type = KeyType{.form = Form::seconds,
                                      .expected = "a number of seconds",
                                      .most = static_cast<std::uint32_t>(burst_seconds_max)};
constexpr auto label_type = KeyType{
    .form = Form::label, .expected = "a partition's number, label or UUID", .noun = "partition"};
constexpr auto name_type =
    KeyType{.form = Form::text, .expected = "a text", .check = check_export_name};
constexpr auto description_type =
    KeyType{.form = Form::text, .expected = "a text", .check = check_description};

void check_path(std::string_view path) {
  if (path.empty()) throw UserError("expected the path of a file");
}
constexpr auto path_type = KeyType{
    .form = Form::text, .expected = "the path of a file", .noun = "file", .check = check_path};

void check_address(std::string_view address) { check_listen_address(std::string(address)); }
constexpr auto address_type = KeyType{.form = Form::text,
                                      .expected = "an address as text",
                                      .noun = "address",
                                      .check = check_address};
constexpr auto addresses_type =
    KeyType{.form = Form::list,
            .expected = "a list of addresses such as [\"127.0.0.1:10809\"]",
            .noun = "address",
            .check = check_address};
constexpr auto patterns_type =
    KeyType{.form = Form::list,
            .expected = "a list of clients such as [\"10.0.0.0/8\", \"uid:1000\"]",
            .noun = "pattern"};

constexpr auto tls_modes = std::array<std::string_view, 3>{"off", "allow", "require"};
constexpr auto export_tls_modes = std::array<std::string_view, 2>{"allow", "require"};
constexpr auto direct_io_modes = std::array<std::string_view, 3>{"auto", "on", "off"};

void assign(bool& field, const KeyType& type, const KeyValue& value) {
  field = type.form == Form::word ? to_word_index(type, value) != 0 : to_truth(type, value);
}

template <typename Field>
requires std::is_unsigned_v<Field> || std::is_enum_v<Field>
void assign(Field& field, const KeyType& type, const KeyValue& value) {
  if constexpr (std::is_enum_v<Field>)
    field = static_cast<Field>(to_word_index(type, value));
  else
    field = static_cast<Field>(to_number(type, value));
}

template <typename Number>
void assign(std::optional<Number>& field, const KeyType& type, const KeyValue& value) {
  auto number = Number{};
  assign(number, type, value);
  field = number;
}

void assign(double& field, const KeyType& type, const KeyValue& value) {
  field = to_seconds(type, value);
}

void assign(std::string& field, const KeyType& type, const KeyValue& value) {
  field = type.form == Form::word ? std::string(type.words[to_word_index(type, value)])
                                  : to_text(type, value);
}

void assign(std::vector<std::string>& field, const KeyType& type, const KeyValue& value) {
  field = to_list(type, value);
}

void assign(std::vector<ClientPattern>& field, const KeyType& type, const KeyValue& value) {
  const auto list = to_list(type, value);
  // An empty list would mean "nobody" to one reader and "everybody" to another.
  if (list.empty())
    throw UserError("an empty list names nobody: leave the key out for no rule at all");
  field.clear();
  for (const auto& pattern : list) field.push_back(parse_client_pattern(pattern));
}

// How a key is called.
struct Names {
  std::string table;
  std::string name;
  std::string flag;
};

// The row of the field that the members lead to, one within the other.
template <typename Owner, auto... members>
Key<Owner> row(const Names& names, KeyType type, Effect effect, const std::string& default_text,
               const std::string& help, const std::string& manual = {}) {
  return {
      .table = names.table,
      .name = names.name,
      .flag = names.flag,
      .type = type,
      .effect = effect,
      .default_text = default_text,
      .help = help,
      .manual = manual,
      .assign_field = [](Owner& owner, const KeyType& as,
                         const KeyValue& value) { assign((owner.*....*members), as, value); },
      .same_field = [](const Owner& one,
                       const Owner& other) { return (one.*....*members) == (other.*....*members); },
      .copy_field = [](Owner& to,
                       const Owner& from) { (to.*....*members) = (from.*....*members); }};
}

template <auto... members, typename... Columns>
ServerKey server_row(const Names& names, Columns&&... columns) {
  return row<Config, members...>(names, std::forward<Columns>(columns)...);
}

template <auto... members, typename... Columns>
ExportKey export_row(const Names& names, Columns&&... columns) {
  return row<ExportConfig, members...>(names, std::forward<Columns>(columns)...);
}

std::vector<ServerKey> make_serving_keys() {
  return {
      server_row<&Config::listen>(
          {"", "listen", "--listen"}, addresses_type, Effect::listeners,
          "127.0.0.1:10809, or the sockets that systemd passes",
          "HOST:PORT, [IPv6]:PORT, unix:PATH or vsock:PORT",
          "An address that systemd has passed a socket for is not opened again. A Unix socket has "
          "the rights that umask leaves, as a rule for its owner alone: umask 0 before the start, "
          "UMask=0 in the unit, or a socket of systemd's with SocketMode= lets others connect."),
      server_row<&Config::workers>({"", "workers", "--workers"}, count_type(1, workers_max),
                                   Effect::restart, "the usable cores, in a container its quota",
                                   "Threads that serve connections"),
      server_row<&Config::memory>(
          {"", "memory", "--memory"}, size_type, Effect::restart,
          "64M or 4M a worker; less in a small container", "Budget for data in flight",
          "In a container with a memory limit, the default is at most half of what 16M for the "
          "program leave of it."),
      server_row<&Config::connections_max>(
          {"", "max_connections", "--max-connections"}, count_type(1, connections_max),
          Effect::restart, "1000; fewer in a small container", "Connections served at once",
          "In a container with a memory limit, the default is so many that what the kernel and TLS "
          "keep for each of them fits into what the data in flight leave."),
      server_row<&Config::busy_poll_us>(
          {"", "busy_poll_us", "--busy-poll-us"}, count_type(0, busy_poll_us_max), Effect::restart,
          "0",
          "Look for requests so many microseconds before sleeping: a shorter round trip for CPU "
          "time",
          "Only workers with clients do. A client that waits for each reply gets it sooner."),
      server_row<&Config::wake_latency_us>(
          {"", "wake_latency_us", "--wake-latency-us"}, count_type(0, wake_latency_us_max),
          Effect::restart, "no limit",
          "While clients are at work, let no processor of the machine sleep so deeply that waking "
          "it takes longer: a shorter round trip for power; needs root at the start",
          "In microseconds; 0 lets none sleep. It is the limit of /dev/cpu_dma_latency, which is "
          "opened before the server becomes another user."),
  };
}

std::vector<ServerKey> make_process_keys() {
  return {
      server_row<&Config::control_socket>(
          {"control", "socket", "--control"}, text_type, Effect::restart, "none",
          "Unix socket to listen on for loopnbd ctl",
          "Only the user who starts the server, and root, can connect to it."),
      server_row<&Config::user>({"", "user", "--user"}, user_type, Effect::restart, "",
                                "Become this user when files, keys and sockets are open"),
      server_row<&Config::sandbox>(
          {"", "sandbox", "--no-sandbox"}, truth_type, Effect::restart, "",
          "Give up what serving does not need: running programs, making files and the like",
          "By Landlock and seccomp. Removing files and connecting to others are given up, too."),
      server_row<&Config::log_level>({"", "log_level", "--log-level"}, word_type(log::levels()),
                                     Effect::log, "info", "Log what is at least so important"),
      server_row<&Config::log_format>({"", "log_format", "--log-format"}, word_type(log::formats()),
                                      Effect::restart, "text", "Text or one JSON object a line"),
      server_row<&Config::slow_request_ms>(
          {"", "slow_request_ms", "--slow-request-ms"}, count_type(0, slow_request_ms_max),
          Effect::restart, "1000",
          "Log requests that take longer, and where their time went; 0: none",
          "They are logged while they are under way as well."),
      server_row<&Config::http_listen>(
          {"http", "listen", "--http"}, address_type, Effect::restart, "none",
          "HOST:PORT or unix:PATH for /metrics, /status, /healthz and /readyz",
          "They are served to everybody who reaches the address."),
  };
}

std::vector<ServerKey> make_tls_keys() {
  return {
      server_row<&Config::tls, &TlsConfig::mode>(
          {"tls", "mode", "--tls"}, word_type(tls_modes), Effect::tls,
          "require when a certificate or a file of keys is given",
          "Whether clients may use TLS, or must"),
      server_row<&Config::tls, &TlsConfig::certificate>(
          {"tls", "certificate", "--tls-certificate"}, path_type, Effect::tls, "",
          "The server's certificate, and those that lead to its authority (PEM)"),
      server_row<&Config::tls, &TlsConfig::key>({"tls", "key", "--tls-key"}, path_type, Effect::tls,
                                                "in the same file",
                                                "The certificate's private key"),
      server_row<&Config::tls, &TlsConfig::client_ca>(
          {"tls", "client_ca", "--tls-client-ca"}, path_type, Effect::tls, "",
          "Authority of the certificates that clients must show",
          "Clients with pre-shared keys need none."),
      server_row<&Config::tls, &TlsConfig::psk_file>(
          {"tls", "psk_file", "--tls-psk-file"}, path_type, Effect::tls, "",
          "Users and their pre-shared keys, as psktool writes them", "A line is USER:HEXKEY."),
  };
}

std::vector<ServerKey> make_server_keys() {
  auto keys = make_serving_keys();
  std::ranges::move(make_process_keys(), std::back_inserter(keys));
  std::ranges::move(make_tls_keys(), std::back_inserter(keys));
  return keys;
}

// The rows of the rates that a member of ExportConfig holds, all of one table.
template <auto limits, std::size_t... index>
void add_limits(std::vector<ExportKey>& keys, const std::string& table, const std::string& prefix,
                const std::string& whose, std::index_sequence<index...>) {
  const auto flag = [&](std::string_view name) { return "--" + prefix + std::string(name); };
  (keys.push_back(export_row<limits, rates[index].value>(
       {table, rates[index].name, flag(rates[index].flag + 2)}, rate_type, Effect::exports,
       "no limit", std::string(rates[index].what) + whose)),
   ...);
  keys.push_back(export_row<limits, &RateLimits::burst_seconds>(
      {table, "burst_seconds", flag("burst-seconds")}, seconds_type, Effect::exports, "0.1",
      "How much of that may be used at once" + whose));
}

std::vector<ExportKey> make_device_keys() {
  return {
      export_row<&ExportConfig::path>({"", "path", ""}, text_type, Effect::reopen, "",
                                      "A regular file or a block device",
                                      "This is the only key that must be there."),
      export_row<&ExportConfig::read_only>({"", "read_only", "--read-only"}, truth_type,
                                           Effect::reopen, "", "Refuse writes"),
      export_row<&ExportConfig::offset>(
          {"", "offset", "--offset"}, size_type, Effect::reopen, "0",
          "Where the export begins in the file, in bytes (K, M, G, T)"),
      export_row<&ExportConfig::size>({"", "size", "--size"}, size_type, Effect::reopen,
                                      "up to the end of the file", "How long the export is"),
      export_row<&ExportConfig::partition>(
          {"", "partition", "--partition"}, label_type, Effect::reopen, "",
          "Export this partition of the file: its number, label or UUID",
          "It stands instead of an offset and a size. The number is that of /dev/sda2. GPT, MBR "
          "with logical partitions and the other tables that libblkid knows are read, once, when "
          "the export is opened."),
      export_row<&ExportConfig::direct_io>(
          {"", "direct_io", "--direct-io"}, word_type(direct_io_modes), Effect::reopen, "auto",
          "auto: past the page cache where the file system can; on: or refuse to start; off: "
          "through it"),
      export_row<&ExportConfig::lock>(
          {"", "lock", "--no-lock"}, truth_type, Effect::reopen, "",
          "Lock the file against a second writer",
          "The locks are of its open file description. Readers share them: other read-only "
          "exports, and virtual machines and tools of qemu that only read it, which look for such "
          "locks as well. A file that one of these writes is refused, for reading too. A block "
          "device that is written is claimed as mounting claims it: another node of it, its disk "
          "and its partitions cannot be written or mounted meanwhile. A file that a loop device "
          "has is not served for writing. Without locks, the file is served whoever has locked, "
          "mounted or attached it."),
  };
}

std::vector<ExportKey> make_client_keys() {
  return {
      export_row<&ExportConfig::description>({"", "description", "--description"}, description_type,
                                             Effect::exports, "", "What clients are told about it"),
      export_row<&ExportConfig::tls_required>(
          {"", "tls", "--export-tls"}, word_type(export_tls_modes), Effect::exports, "allow",
          "require: where TLS is allowed, offer the export only to clients that use it"),
      export_row<&ExportConfig::access, &AccessRules::allow>(
          {"", "allow", "--allow"}, patterns_type, Effect::exports, "everybody",
          "Who may use the export: a network (10.0.0.0/8), cert:CN=NAME, psk:USER, uid:NUMBER or "
          "gid:NUMBER",
          "For others it does not exist. The name in the client's certificate may have a star "
          "(cert:CN=node-*); uid and gid are those of the process at the other end of a Unix "
          "socket."),
      export_row<&ExportConfig::access, &AccessRules::read_only_for>(
          {"", "read_only_for", "--read-only-for"}, patterns_type, Effect::exports, "",
          "Who of them may only read, in the same words"),
      export_row<&ExportConfig::writers_max>(
          {"", "writers", "--writers"}, count_type(1, writers_max), Effect::exports, "all",
          "Client addresses that may write at the same time; others read"),
  };
}

std::vector<ExportKey> make_export_keys() {
  auto keys = std::vector<ExportKey>{export_row<&ExportConfig::name>(
      {"", "name", ""}, name_type, Effect::exports, "the file's name without its folders",
      "How clients ask for it", "Clients get the first export by the empty name, too.")};
  std::ranges::move(make_device_keys(), std::back_inserter(keys));
  std::ranges::move(make_client_keys(), std::back_inserter(keys));
  constexpr auto each_rate = std::make_index_sequence<rates.size()>();
  add_limits<&ExportConfig::limits>(keys, "limits", "", "", each_rate);
  add_limits<&ExportConfig::client_limits>(keys, "client_limits", "client-",
                                           ", of each client address", each_rate);
  return keys;
}

}  // namespace

std::string negation_of(std::string phrase) {
  phrase[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(phrase[0])));
  return "Do not " + phrase;
}

std::span<const ServerKey> server_keys() {
  static const auto keys = make_server_keys();
  return keys;
}

std::span<const ExportKey> export_keys() {
  static const auto keys = make_export_keys();
  return keys;
}

std::vector<std::string> keys_for_restart(const Config& now, const Config& then) {
  auto names = std::vector<std::string>{};
  for (const auto& key : server_keys())
    if (key.effect == Effect::restart && !key.same(now, then)) names.push_back(key.full_name());
  return names;
}

void take_over(Config& now, const Config& then) {
  for (const auto& key : server_keys())
    if (key.effect != Effect::restart) key.copy(now, then);
}

bool has_same_device(const ExportConfig& one, const ExportConfig& other) {
  return std::ranges::all_of(export_keys(), [&](const ExportKey& key) {
    return key.effect != Effect::reopen || key.same(one, other);
  });
}

}  // namespace server
