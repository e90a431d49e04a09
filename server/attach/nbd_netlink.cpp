#include "server/attach/nbd_netlink.h"

#include <fmt/format.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace server {
namespace {

struct FreeSocket {
  void operator()(nl_sock* socket) const noexcept { ::nl_socket_free(socket); }
};
using SocketPointer = std::unique_ptr<nl_sock, FreeSocket>;

struct FreeMessage {
  void operator()(nl_msg* message) const noexcept { ::nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, FreeMessage>;

// The driver is built in or loaded already when its folder is there.
void load_module() {
  struct stat status {};
  if (::stat("/sys/module/nbd", &status) == 0) return;
  auto name = std::string("modprobe");
  auto module = std::string("nbd");
  const auto arguments = std::array<char*, 3>{name.data(), module.data(), nullptr};
  auto child = pid_t{};
  auto ended = 0;
  // Its own words about a failure go to standard error.
  if (::posix_spawnp(&child, "modprobe", nullptr, nullptr, arguments.data(), ::environ) == 0)
    ::waitpid(child, &ended, 0);
}

SocketPointer open_socket() {
  auto socket = SocketPointer(::nl_socket_alloc());
  const auto failure = socket == nullptr ? -NLE_NOMEM : ::genl_connect(socket.get());
  if (failure < 0)
    throw NbdError(ENOMEM, fmt::format("cannot open a netlink socket: {}", ::nl_geterror(failure)));
  return socket;
}

[[noreturn]] void fail_without_driver() {
  throw NbdError(
      ENOENT,
      "the kernel has no NBD driver: its module \"nbd\" is not loaded. Load it with: modprobe nbd "
      "(as root, outside of containers). If there is no such module, install a kernel package that "
      "has it; Debian's linux-image-amd64 and linux-image-cloud-amd64 do");
}

int resolve_family(nl_sock* socket) {
  const auto family = ::genl_ctrl_resolve(socket, NBD_GENL_FAMILY_NAME);
  if (family < 0) fail_without_driver();
  return family;
}

std::string remedy(int error) {
  switch (error) {
    case EPERM:
      return "; this needs root (the capability CAP_SYS_ADMIN)";
    case EBUSY:
      return "; it is in use: detach it first, or name another device or none";
    default:
      return "";
  }
}

[[noreturn]] void fail(const std::string& step, std::uint32_t index, int error) {
  throw NbdError(error, fmt::format("cannot {} /dev/nbd{}: {}{}", step, index, std::strerror(error),
                                    remedy(error)));
}

void put(nl_msg* message, int attribute, std::uint64_t value) {
  if (::nla_put_u64(message, attribute, value) < 0) throw std::bad_alloc();
}

void put_index(nl_msg* message, std::uint32_t index) {
  if (::nla_put_u32(message, NBD_ATTR_INDEX, index) < 0) throw std::bad_alloc();
}

void put_backend(nl_msg* message, const std::string& backend) {
  if (::nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, backend.c_str()) < 0)
    throw std::bad_alloc();
}

void put_sockets(nl_msg* message, std::span<const int> sockets) {
  auto* const list = ::nla_nest_start(message, NBD_ATTR_SOCKETS);
  if (list == nullptr) throw std::bad_alloc();
  for (const auto fd : sockets) {
    auto* const item = ::nla_nest_start(message, NBD_SOCK_ITEM);
    if (item == nullptr || ::nla_put_u32(message, NBD_SOCK_FD, static_cast<std::uint32_t>(fd)) < 0)
      throw std::bad_alloc();
    ::nla_nest_end(message, item);
  }
  ::nla_nest_end(message, list);
}

}  // namespace

struct NbdNetlink::Socket {
  Socket() {
    load_module();
    socket = open_socket();
    family = resolve_family(socket.get());
    // An answer may come before the acknowledgement, each in a datagram of its own.
    ::nl_socket_modify_cb(
        socket.get(), NL_CB_ACK, NL_CB_CUSTOM,
        [](nl_msg*, void* self) {
          static_cast<Socket*>(self)->answered = true;
          return static_cast<int>(NL_STOP);
        },
        this);
    ::nl_socket_modify_err_cb(
        socket.get(), NL_CB_CUSTOM,
        [](sockaddr_nl*, nlmsgerr* failure, void* self) {
          static_cast<Socket*>(self)->answered = true;
          static_cast<Socket*>(self)->error = -failure->error;
          return static_cast<int>(NL_STOP);
        },
        this);
  }

  Message start(std::uint8_t command) const {
    auto message = Message(::nlmsg_alloc());
    if (message == nullptr || ::genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0,
                                            command, NBD_GENL_VERSION) == nullptr)
      throw std::bad_alloc();
    return message;
  }

  // 0 or an errno.
  int send(const Message& message) {
    answered = false;
    error = 0;
    if (const auto failure = ::nl_send_auto(socket.get(), message.get()); failure < 0) return EIO;
    while (!answered)
      if (::nl_recvmsgs_default(socket.get()) < 0 && !answered) return EIO;
    return error;
  }

  SocketPointer socket;
  int family = 0;
  bool answered = false;
  int error = 0;
};

NbdNetlink::NbdNetlink() : socket_(std::make_unique<Socket>()) {}

NbdNetlink::~NbdNetlink() = default;

void NbdNetlink::connect(const NbdDeviceSettings& settings, std::span<const int> sockets) {
  const auto message = socket_->start(NBD_CMD_CONNECT);
  auto* const out = message.get();
  put_index(out, settings.index);
  put(out, NBD_ATTR_SIZE_BYTES, settings.size);
  put(out, NBD_ATTR_BLOCK_SIZE_BYTES, settings.block_size);
  put(out, NBD_ATTR_SERVER_FLAGS, settings.transmission_flags);
  if (settings.timeout_s) put(out, NBD_ATTR_TIMEOUT, *settings.timeout_s);
  put(out, NBD_ATTR_DEAD_CONN_TIMEOUT, settings.dead_timeout_s);
  if (settings.destroyed_on_disconnect)
    put(out, NBD_ATTR_CLIENT_FLAGS, NBD_CFLAG_DESTROY_ON_DISCONNECT);
  put_sockets(out, sockets);
  put_backend(out, settings.backend);
  if (const auto error = socket_->send(message); error != 0) fail("connect", settings.index, error);
}

bool NbdNetlink::replace_sockets(std::uint32_t index, const std::string& backend,
                                 std::span<const int> sockets, std::optional<std::uint64_t> size) {
  const auto message = socket_->start(NBD_CMD_RECONFIGURE);
  put_index(message.get(), index);
  put_backend(message.get(), backend);
  if (size) put(message.get(), NBD_ATTR_SIZE_BYTES, *size);
  if (!sockets.empty()) put_sockets(message.get(), sockets);
  const auto error = socket_->send(message);
  if (error == EINVAL) return false;
  if (error != 0) fail("give new sockets to", index, error);
  return true;
}

void NbdNetlink::disconnect(std::uint32_t index) {
  const auto message = socket_->start(NBD_CMD_DISCONNECT);
  put_index(message.get(), index);
  if (const auto error = socket_->send(message); error != 0) fail("disconnect", index, error);
}

struct LinkDeadEvents::Socket {
  Socket() : socket(open_socket()) {
    const auto group =
        ::genl_ctrl_resolve_grp(socket.get(), NBD_GENL_FAMILY_NAME, NBD_GENL_MCAST_GROUP_NAME);
    if (group < 0) fail_without_driver();
    ::nl_socket_disable_seq_check(socket.get());
    ::nl_socket_set_nonblocking(socket.get());
    if (const auto failure = ::nl_socket_add_membership(socket.get(), group); failure < 0)
      throw NbdError(EPERM, fmt::format("cannot listen to the NBD driver's events: {}",
                                        ::nl_geterror(failure)));
    ::nl_socket_modify_cb(
        socket.get(), NL_CB_VALID, NL_CB_CUSTOM,
        [](nl_msg* message, void* self) {
          static_cast<Socket*>(self)->note(message);
          return static_cast<int>(NL_OK);
        },
        this);
  }

  void note(nl_msg* message) noexcept {
    auto* const header = static_cast<genlmsghdr*>(::nlmsg_data(::nlmsg_hdr(message)));
    const auto* const index =
        ::nlmsg_find_attr(::nlmsg_hdr(message), static_cast<int>(sizeof *header), NBD_ATTR_INDEX);
    if (header->cmd == NBD_CMD_LINK_DEAD && index != nullptr && ::nla_get_u32(index) == wanted)
      ++count;
  }

  SocketPointer socket;
  std::uint32_t wanted = 0;
  std::size_t count = 0;
};

LinkDeadEvents::LinkDeadEvents() : socket_(std::make_unique<Socket>()) {}

LinkDeadEvents::~LinkDeadEvents() = default;

int LinkDeadEvents::fd() const noexcept { return ::nl_socket_get_fd(socket_->socket.get()); }

std::size_t LinkDeadEvents::take(std::uint32_t index) noexcept {
  socket_->wanted = index;
  socket_->count = 0;
  // Each call takes what one datagram holds; an error says that there is no more. Should events
  // have been lost, at least one of those that overran the buffer is in it.
  while (::nl_recvmsgs_default(socket_->socket.get()) >= 0) continue;
  return socket_->count;
}

}  // namespace server
