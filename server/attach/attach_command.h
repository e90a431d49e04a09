// `loopnbd attach`, `detach` and `devices`: what their command lines say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace server {

struct Attach {
  std::string source;                   // a file's path or the address of an export
  std::optional<std::uint32_t> device;  // index; nothing: one that is free
  std::uint32_t connections = 1;
  bool read_only = false;
  std::uint32_t block_size = 512;               // bytes
  std::optional<std::uint32_t> timeout_s = {};  // as in NbdDeviceSettings
  std::uint32_t dead_timeout_s = 300;
  bool keep_scheduler = false;  // the kernel's I/O scheduler, in the place of none
  bool swap = false;            // must work whatever memory there is, or not at all
  bool foreground = false;
  std::string log_level = "info";
};

struct Detach {
  std::uint32_t device = 0;  // index
};

struct ListDevices {
  bool json = false;
};

using AttachCommand = std::variant<Attach, Detach, ListDevices>;

// Adds the subcommands to a command line, and says what they were given once that was parsed.
class AttachCommandLine {
 public:
  // Both outlive the parsing.
  explicit AttachCommandLine(CLI::App& app);

  // Nothing: another subcommand was named. Throws UserError for values that cannot be.
  std::optional<AttachCommand> parsed() const;

 private:
  void add_attach();

  CLI::App& attach_app_;
  CLI::App& detach_app_;
  CLI::App& devices_app_;
  Attach attach_;
  std::string attach_device_;
  std::string detach_device_;
  ListDevices devices_;
};

}  // namespace server
