#include "server/net/attach_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "engine/shell_word.h"
#include "server/net/listen_address.h"

namespace server {
namespace {

using engine::shell_word;

constexpr std::string_view letters_and_digits =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

bool is_among(char letter, std::string_view letters) {
  return letters.find(letter) != std::string_view::npos;
}

// The client may be started in another folder.
std::string absolute(std::string_view path) {
  auto failure = std::error_code{};
  const auto found = std::filesystem::absolute(path, failure);
  return failure ? std::string(path) : found.string();
}

using Commands = std::vector<std::string>;

Commands commands_for_unix(std::string_view path, const std::string& export_name, bool tls) {
  const auto socket = absolute(path);
  const auto uri = fmt::format("{}+unix:///{}?socket={}", tls ? "nbds" : "nbd",
                               uri_part(export_name), uri_part(socket));
  auto commands = Commands{
      fmt::format("nbd-client {}-unix {} -N {} /dev/nbd0", tls ? "-enable-tls " : "",
                  shell_word(socket), shell_word(export_name)),
      fmt::format("nbdinfo {}", shell_word(uri)),
  };
  if (!tls) commands.push_back(fmt::format("qemu-img info {}", shell_word(uri)));
  return commands;
}

Commands commands_for_tcp(std::string_view address, const std::string& export_name, bool tls) {
  const auto colon = address.rfind(':');
  const auto port = address.substr(colon + 1);
  auto host = std::string(address.substr(0, colon));
  if (host == "0.0.0.0" || host == "[::]") host = "HOST";
  const auto bare = host.starts_with('[') ? host.substr(1, host.size() - 2) : host;
  // An interface stands behind the address, as in [fe80::1%eth0].
  const auto scope = host.find('%');
  if (scope != std::string::npos) host.insert(scope + 1, "25");
  const auto uri =
      fmt::format("{}://{}:{}/{}", tls ? "nbds" : "nbd", host, port, uri_part(export_name));
  auto commands = Commands{
      fmt::format("nbd-client {}-N {} {} {} /dev/nbd0", tls ? "-enable-tls " : "",
                  shell_word(export_name), shell_word(bare), port),
      fmt::format("nbdinfo {}", shell_word(uri)),
  };
  if (!tls) commands.push_back(fmt::format("qemu-img info {}", shell_word(uri)));
  return commands;
}

}  // namespace

std::string uri_part(std::string_view text) {
  auto part = std::string{};
  for (const auto letter : text)
    if (is_among(letter, letters_and_digits) || is_among(letter, "-._~/"))
      part += letter;
    else
      part += fmt::format("%{:02X}", static_cast<unsigned char>(letter));
  return part;
}

std::vector<std::string> attach_commands(const std::vector<std::string>& addresses,
                                         const std::string& export_name, bool tls) {
  auto commands = Commands{};
  for (const auto& address : addresses) {
    if (address.starts_with(vsock_prefix)) continue;  // no client speaks it by itself
    const auto more = address.starts_with(unix_prefix)
                          ? commands_for_unix(std::string_view(address).substr(unix_prefix.size()),
                                              export_name, tls)
                          : commands_for_tcp(address, export_name, tls);
    for (const auto& command : more)
      if (std::ranges::find(commands, command) == commands.end()) commands.push_back(command);
  }
  return commands;
}

}  // namespace server
