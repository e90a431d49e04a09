#include "server/config/import_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "proto/constants.h"
#include "proto/text.h"
#include "server/base/read_file.h"
#include "server/base/user_error.h"
#include "server/config/key_file.h"
#include "server/net/listen_address.h"
#include "server/policy/network.h"

namespace server {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t note_length_max = 4096;  // bytes

enum class Kind : std::uint8_t { flag, number, text };

// A key that says what our server does not do, or does anyway.
struct Difference {
  std::string_view key;
  Kind kind;
  std::string_view explanation;
};

constexpr auto generic_differences = std::array{
    Difference{"group", Kind::text,
               "the groups are those of the user, or Group= in the systemd unit"},
    Difference{"max_threads", Kind::number,
               "no thread waits for the disk here; workers stays at the number of processors"},
    Difference{"tlsprio", Kind::text, "TLS 1.2 and 1.3 are offered, with the ciphers of OpenSSL"},
    Difference{"splice", Kind::flag, "not needed: direct I/O does not copy either"},
};

constexpr auto export_differences = std::array{
    Difference{"sync", Kind::flag,
               "a write is not synced at once, but by FLUSH and FUA, which clients must send"},
    Difference{"rotational", Kind::flag, "clients are told so when the device itself says it"},
    Difference{"splice", Kind::flag, "not needed: direct I/O does not copy either"},
    Difference{"sdp", Kind::flag, "only TCP, Unix and vsock sockets are served"},
    Difference{"prerun", Kind::text, "no command is run when a client comes"},
    Difference{"postrun", Kind::text, "no command is run when a client goes"},
    Difference{"transactionlog", Kind::text, "requests are not recorded"},
    Difference{"datalog", Kind::flag, "requests are not recorded"},
    Difference{"timeout", Kind::number,
               "idle connections stay; TCP keep-alive ends those whose client is gone"},
    Difference{"maxconnections", Kind::number,
               "connections are not counted by export; max_connections limits all of them"},
};

constexpr auto generic_keys = std::array<std::string_view, 12>{
    "user",     "oldstyle",   "listenaddr", "port",     "includedir", "allowlist",
    "unixsock", "duallisten", "force_tls",  "certfile", "keyfile",    "cacertfile"};
// flush, fua and trim are always offered; the older port, listenaddr are ignored by nbd-server,
// too.
constexpr auto nbd_server_keys = std::array<std::string_view, 18>{
    "exportname", "authfile",  "filesize", "virtstyle",  "cowdir",    "readonly",
    "multifile",  "treefiles", "waitfile", "sparse_cow", "temporary", "copyonwrite",
    "force_tls",  "tlsonly",   "flush",    "fua",        "trim",      "listenaddr"};

// Throws UserError: a text of TOML is UTF-8.
std::string toml_text(std::string_view text) {
  if (!proto::valid_string(text))
    throw UserError(
        fmt::format("{} is no UTF-8, or longer than {} bytes: loopnbd cannot be told of it",
                    proto::quoted(text), proto::string_length_max));
  auto quoted = std::string("\"");
  for (const auto letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == '"' || letter == '\\')
      quoted += {'\\', letter};
    else if (code < 0x20 || code == 0x7f)
      quoted += fmt::format("\\u{:04x}", code);
    else
      quoted += letter;
  }
  return quoted + '"';
}

std::string list_of(const std::vector<std::string>& texts) {
  auto all = std::vector<std::string>{};
  for (const auto& text : texts) all.push_back(toml_text(text));
  return fmt::format("[{}]", fmt::join(all, ", "));
}

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
}

// An address or network of an authfile, without the address bits behind its prefix; empty if it is
// none.
std::string network_of(std::string_view text) {
  try {
    return format_network(without_host_bits(parse_network(text)));
  } catch (const std::runtime_error&) {
    return "";
  }
}

class Importer {
 public:
  explicit Importer(const std::string& path) { read(path); }

  ImportedConfig run() {
    out_ = fmt::format("# Translated from {} by `loopnbd import-config`.\n", generic_.path);
    write_generic();
    count_paths();
    for (const auto& section : exports_) write_export(section);
    return {std::move(out_), std::move(notes_)};
  }

 private:
  void read(const std::string& path) {
    auto sections = read_key_file(path);
    if (sections.empty() || sections.front().name != "generic")
      throw UserError(fmt::format(
          "{}: the first section is not [generic]: is it a configuration of nbd-server?", path));
    generic_ = sections.front();
    exports_.assign(std::next(sections.begin()), sections.end());
    if (generic_.flag("oldstyle"))
      throw UserError(fmt::format(
          "{}: oldstyle = true: neither nbd-server 3.10 nor loopnbd speaks the old protocol",
          generic_.place(*generic_.find("oldstyle"))));
    if (const auto folder = value_of(generic_, "includedir")) read_included(*folder);
    if (exports_.empty()) throw UserError(fmt::format("{}: there are no exports in it", path));
  }

  void read_included(const std::string& folder) {
    auto error = std::error_code{};
    auto paths = std::set<std::string>{};
    auto entries = fs::directory_iterator(folder, error);
    if (error)
      throw UserError(fmt::format("{}: cannot read the folder {}: {}",
                                  generic_.place(*generic_.find("includedir")), folder,
                                  error.message()));
    for (const auto& entry : entries)
      if (entry.path().extension() == ".conf" && entry.is_regular_file(error))
        paths.insert(entry.path());
    for (const auto& path : paths)
      for (auto& section : read_key_file(path)) exports_.push_back(std::move(section));
  }

  // A value may hold any bytes, those that end a comment as well.
  void note(const std::string& place, std::string_view text) {
    notes_.push_back(proto::printable(fmt::format("{}: {}", place, text), note_length_max));
    out_ += fmt::format("# {}\n", notes_.back());
  }

  template <std::size_t N>
  void note_differences(const KeyFileSection& section,
                        const std::array<Difference, N>& differences) {
    for (const auto& [key, kind, explanation] : differences) {
      const auto* const entry = section.find(key);
      if (entry == nullptr) continue;
      if (kind == Kind::flag && !section.flag(key)) continue;
      if (kind == Kind::number && section.number(key) == 0) continue;
      note(section.place(*entry),
           fmt::format("{} = {}: no equivalent: {}", key, entry->value, explanation));
    }
  }

  template <std::size_t N, std::size_t M>
  void note_unknown(const KeyFileSection& section, const std::array<Difference, N>& differences,
                    const std::array<std::string_view, M>& keys) {
    for (const auto& entry : section.entries)
      if (std::ranges::find(differences, entry.key, &Difference::key) == differences.end() &&
          std::ranges::find(keys, entry.key) == keys.end())
        note(section.place(entry),
             fmt::format("{}: not a key of nbd-server; ignored there and here", entry.key));
  }

  void check_address(const std::string& address) const {
    try {
      check_listen_address(address);
    } catch (const std::runtime_error& error) {
      throw UserError(fmt::format("{}: {}", generic_.place(), error.what()));
    }
  }

  std::vector<std::string> listen_addresses() const {
    const auto unix_path = generic_.text("unixsock");
    auto addresses = std::vector<std::string>{};
    if (unix_path) addresses.push_back("unix:" + *unix_path);
    if (unix_path && !generic_.flag("duallisten")) {
      check_address(addresses.front());
      return addresses;
    }
    const auto port = std::string(trim(generic_.text("port").value_or("10809")));
    auto hosts = generic_.text("listenaddr").value_or("::, 0.0.0.0");
    for (std::size_t begin = 0; begin <= hosts.size();) {
      const auto end = std::min(hosts.find(',', begin), hosts.size());
      const auto host = trim(std::string_view(hosts).substr(begin, end - begin));
      begin = end + 1;
      if (host.empty()) continue;
      auto address = host.find(':') == std::string_view::npos ? fmt::format("{}:{}", host, port)
                                                              : fmt::format("[{}]:{}", host, port);
      addresses.push_back(std::move(address));
    }
    for (const auto& address : addresses) check_address(address);
    return addresses;
  }

  // A file or a user, which cannot be named by nothing.
  static std::optional<std::string> value_of(const KeyFileSection& section, std::string_view key) {
    auto value = section.text(key);
    if (value && value->empty())
      throw UserError(fmt::format("{}: {} has no value", section.place(*section.find(key)), key));
    return value;
  }

  void write_generic() {
    note_differences(generic_, generic_differences);
    note_unknown(generic_, generic_differences, generic_keys);
    if (!generic_.flag("allowlist"))
      note(generic_.place(),
           "allowlist is not set: no equivalent: clients can list the exports they may use");
    out_ += fmt::format("listen = {}\n", list_of(listen_addresses()));
    if (const auto user = value_of(generic_, "user"))
      out_ += fmt::format("user = {}\n", toml_text(*user));
    const auto key = value_of(generic_, "keyfile");
    if (!key) {
      if (generic_.flag("force_tls"))
        throw UserError(fmt::format("{}: force_tls without a keyfile: nobody could connect",
                                    generic_.place(*generic_.find("force_tls"))));
      return;
    }
    out_ += fmt::format("\n[tls]\nmode = \"{}\"\ncertificate = {}\nkey = {}\n",
                        generic_.flag("force_tls") ? "require" : "allow",
                        toml_text(value_of(generic_, "certfile").value_or(*key)), toml_text(*key));
    if (const auto authority = value_of(generic_, "cacertfile"))
      out_ += fmt::format("client_ca = {}\n", toml_text(*authority));
  }

  void count_paths() {
    for (const auto& section : exports_) {
      const auto path = value_of(section, "exportname");
      if (!path)
        throw UserError(fmt::format("{}: [{}] has no exportname", section.place(), section.name));
      if (!paths_.insert(*path).second) shared_paths_.insert(*path);
    }
  }

  // Why an export cannot be served as nbd-server does; empty if it can.
  std::string obstacle(const KeyFileSection& section, const std::string& path) {
    for (const auto& [key, meaning] : {
             std::pair{"multifile", "several files as one disk"},
             std::pair{"treefiles", "a tree of files as one disk"},
             std::pair{"temporary", "a new file for each client"},
             std::pair{"waitfile", "a file that comes later"},
         })
      if (section.flag(key)) return fmt::format("{} = true: no equivalent: {}", key, meaning);
    const auto style = section.text("virtstyle").value_or("ipliteral");
    if (path.find("%s") != std::string::npos && !style.starts_with("none"))
      return "exportname has a %s: no equivalent: a file for each client's address";
    if ((section.flag("force_tls") || section.flag("tlsonly")) && !generic_.find("keyfile"))
      return "it wants TLS, and there is no keyfile";
    if (!proto::valid_string(section.name) || !proto::valid_string(path))
      return "its name or its path is no UTF-8, or too long";
    if (!names_.insert(section.name).second) return "another export has this name";
    return "";
  }

  // False: nobody may use the export, or it cannot be known who.
  bool find_allowed(const KeyFileSection& section) {
    const auto path = value_of(section, "authfile");
    if (!path) return true;
    const auto place = section.place(*section.find("authfile"));
    auto error = std::error_code{};
    if (!fs::exists(*path, error) && !error) {
      note(place, fmt::format("authfile {} does not exist: every client is let in", *path));
      return true;
    }
    auto file = std::istringstream(read_file(*path));
    auto networks = std::vector<std::string>{};
    for (auto line = std::string{}; std::getline(file, line);) {
      const auto text = trim(std::string_view(line).substr(0, line.find('#')));
      if (text.empty()) continue;
      if (auto network = network_of(text); !network.empty())
        networks.push_back(std::move(network));
      else
        note(place, fmt::format("{}: \"{}\" is no address and no network", *path, text));
    }
    if (networks.empty()) {
      note(place, fmt::format("[{}] is left out: authfile {} names no client: nobody is let in",
                              section.name, *path));
      return false;
    }
    allowed_ = fmt::format("allow = {}\n", list_of(networks));
    return true;
  }

  void write_export(const KeyFileSection& section) {
    const auto path = *section.text("exportname");
    out_ += '\n';
    if (const auto reason = obstacle(section, path); !reason.empty()) {
      note(section.place(), fmt::format("[{}] is left out: {}", section.name, reason));
      return;
    }
    allowed_.clear();
    if (!find_allowed(section)) return;
    note_differences(section, export_differences);
    note_unknown(section, export_differences, nbd_server_keys);
    if (!path.starts_with('/'))
      note(section.place(), "exportname is relative: to the folder that loopnbd is started in");
    auto read_only = section.flag("readonly");
    if (section.flag("copyonwrite")) {
      read_only = true;
      note(section.place(), "copyonwrite = true: no equivalent: it is served read-only");
    }
    const auto shared = !read_only && shared_paths_.contains(path);
    if (shared) note(section.place(), "several exports have this file: it cannot be locked");
    out_ +=
        fmt::format("[[export]]\nname = {}\npath = {}\n", toml_text(section.name), toml_text(path));
    if (read_only) out_ += "read_only = true\n";
    if (shared_paths_.contains(path)) out_ += "lock = false\n";
    if (const auto size = section.number("filesize"); size && *size != 0) {
      if (*size < 0)
        throw UserError(fmt::format("{}: filesize = {}: expected a number of bytes",
                                    section.place(*section.find("filesize")), *size));
      out_ += fmt::format("size = {}\n", *size);
    }
    if (section.flag("force_tls") || section.flag("tlsonly")) out_ += "tls = \"require\"\n";
    out_ += allowed_;
  }

  KeyFileSection generic_;
  std::vector<KeyFileSection> exports_;
  std::set<std::string> names_;
  std::set<std::string> paths_;
  std::set<std::string> shared_paths_;  // of several exports
  std::string allowed_;                 // of the export at hand
  std::string out_;
  std::vector<std::string> notes_;
};

}  // namespace

ImportedConfig import_config(const std::string& path) { return Importer(path).run(); }

}  // namespace server
