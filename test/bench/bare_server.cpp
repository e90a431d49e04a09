#include "test/bench/bare_server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "proto/negotiation.h"

namespace bench {
namespace {

constexpr std::size_t input_size = 256U << 10;    // bytes
constexpr std::size_t small_capacity = 4U << 10;  // bytes; also the alignment
constexpr std::size_t large_capacity = 1U << 20;  // bytes
constexpr int send_buffer_size = 1 << 20;         // bytes; as the product has it
constexpr std::size_t submitted_at_once = 8;      // as the product does
constexpr int depth_max = 4096;
constexpr std::size_t vectors_max = 1024;  // IOV_MAX

[[noreturn]] void fail(int error, const char* what) {
  throw std::system_error(error, std::generic_category(), what);
}

int checked(int result, const char* what) {
  if (result < 0) fail(errno, what);
  return result;
}

std::uint64_t size_of(int file) {
  struct stat status {};
  checked(::fstat(file, &status), "fstat");
  return static_cast<std::uint64_t>(status.st_size);
}

engine::FileDescriptor listen_at(const std::string& path) {
  auto listener = engine::FileDescriptor(checked(::socket(AF_UNIX, SOCK_STREAM, 0), "socket"));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof address.sun_path) fail(ENAMETOOLONG, path.c_str());
  path.copy(address.sun_path, path.size());
  checked(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
          "bind");
  checked(::listen(listener.get(), SOMAXCONN), "listen");
  return listener;
}

class OneExport final : public proto::ExportDirectory {
 public:
  explicit OneExport(std::uint64_t size) {
    namespace flag = proto::transmission_flag;
    export_.name = "disk";
    export_.size = size;
    export_.transmission_flags = flag::send_flush | flag::can_multi_conn;
  }
  std::vector<proto::ExportDescription> list() override { return {export_}; }
  std::optional<proto::ExportDescription> find(std::string_view) override { return export_; }

 private:
  proto::ExportDescription export_;
};

void send_whole(int socket, std::span<const std::byte> bytes) {
  const auto sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(bytes.size())) fail(errno, "send");
}

// Blocks: the handshake is not measured. The client sends nothing behind it before it is answered.
// False: there was none.
bool shake_hands(int socket, std::uint64_t size) {
  OneExport directory(size);
  proto::Negotiation negotiation(directory, proto::TlsMode::off);
  send_whole(socket, proto::Negotiation::greeting());
  std::array<std::byte, 4096> input{};
  for (auto next = proto::Negotiation::Next::receive; next == proto::Negotiation::Next::receive;) {
    const auto received = ::recv(socket, input.data(), input.size(), 0);
    if (received <= 0) return false;
    std::vector<std::byte> output;
    next = negotiation.receive(std::span(input).first(static_cast<std::size_t>(received)), output)
               .next;
    send_whole(socket, output);
    if (next == proto::Negotiation::Next::transmit) return true;
  }
  return false;
}

}  // namespace

BareServer::BareServer(const std::string& path, const std::string& socket_path)
    : file_(checked(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC), path.c_str())),
      size_(size_of(file_.get())),
      listener_(listen_at(socket_path)),
      epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wakeup_(checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")) {
  if (const int error = ::io_setup(depth_max, &context_); error < 0) fail(-error, "io_setup");
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event), "epoll_ctl");
  event = {.events = EPOLLIN | EPOLLET, .data = {.ptr = this}};
  checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeup_.get(), &event), "epoll_ctl");
}

BareServer::~BareServer() { ::io_destroy(context_); }

void BareServer::run() {
  for (;;) {
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    if (count < 0 && errno != EINTR) fail(errno, "epoll_wait");
    for (const auto& event :
         std::span(events).first(static_cast<std::size_t>(std::max(count, 0)))) {
      if (event.data.ptr == nullptr) {
        welcome();
      } else if (event.data.ptr != this) {  // the wake-up needs no answer: it is edge-triggered
        auto& client = *static_cast<Client*>(event.data.ptr);
        if (std::exchange(client.waits_for_room, false)) watch(client, EPOLL_CTL_MOD, EPOLLIN);
        receive(client);
      }
    }
    harvest();
    submit();
    send_all();
    std::erase_if(clients_, [](const auto& client) {
      return client->socket.get() < 0 && client->in_flight == 0;
    });
  }
}

void BareServer::welcome() {
  auto client = std::make_unique<Client>();
  client->socket =
      engine::FileDescriptor(checked(::accept(listener_.get(), nullptr, nullptr), "accept"));
  const int socket = client->socket.get();
  if (!shake_hands(socket, size_)) return;
  checked(::fcntl(socket, F_SETFL, O_NONBLOCK), "fcntl");
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &send_buffer_size, sizeof send_buffer_size);
  client->input.resize(input_size);
  watch(*client, EPOLL_CTL_ADD, EPOLLIN);
  clients_.push_back(std::move(client));
}

void BareServer::receive(Client& client) {
  for (auto more = true; more && client.socket.get() >= 0;) {
    std::array<iovec, 2> vectors{};
    auto& [payload, behind] = vectors;
    if (client.filling != nullptr)
      payload = {client.filling->buffer.get() + client.filled,
                 client.filling->request.length - client.filled};
    behind = {client.input.data() + client.end, client.input.size() - client.end};
    const auto offered = payload.iov_len + behind.iov_len;
    const auto result = ::readv(client.socket.get(), vectors.data(), vectors.size());
    if (result < 0 && errno == EAGAIN) return;
    if (result <= 0) return forget(client);
    const auto received = static_cast<std::size_t>(result);
    const auto direct = std::min(received, payload.iov_len);
    client.filled += direct;
    client.end += received - direct;
    more = received == offered;
    parse(client);
  }
}

void BareServer::parse(Client& client) {
  for (;;) {
    const auto bytes = std::span(client.input).subspan(client.begin, client.end - client.begin);
    if (auto* const slot = client.filling; slot != nullptr) {
      const auto count = std::min(slot->request.length - client.filled, bytes.size());
      std::memcpy(slot->buffer.get() + client.filled, bytes.data(), count);
      client.begin += count;
      client.filled += count;
      if (client.filled < slot->request.length) break;
      prepare(*std::exchange(client.filling, nullptr));
      continue;
    }
    if (bytes.size() < proto::compact_request_size) break;
    const auto request =
        proto::decode_request(bytes.first(proto::compact_request_size), proto::HeaderStyle::simple);
    if (!request) fail(EPROTO, "a request");
    client.begin += proto::compact_request_size;
    if (request->command == proto::Command::disconnect) return forget(client);
    const bool has_buffer = request->command <= proto::Command::write;
    auto* const slot = take(has_buffer ? request->length : 0);
    slot->client = &client;
    slot->request = *request;
    if (request->command == proto::Command::write) {
      client.filling = slot;
      client.filled = 0;
    } else if (request->command == proto::Command::read) {
      prepare(*slot);
    } else {
      client.answered.push_back(slot);
    }
  }
  std::memmove(client.input.data(), client.input.data() + client.begin, client.end - client.begin);
  client.end -= std::exchange(client.begin, 0);
}

void BareServer::prepare(Slot& slot) {
  const auto& request = slot.request;
  const auto prepare_block =
      request.command == proto::Command::write ? ::io_prep_pwrite : ::io_prep_pread;
  prepare_block(&slot.block, file_.get(), slot.buffer.get(), request.length,
                static_cast<long long>(request.offset));
  ::io_set_eventfd(&slot.block, wakeup_.get());
  slot.block.data = &slot;
  batch_.push_back(&slot.block);
  ++slot.client->in_flight;
}

void BareServer::submit() {
  for (std::size_t done = 0; done < batch_.size();) {
    const auto count = static_cast<long>(std::min(batch_.size() - done, submitted_at_once));
    const int taken = ::io_submit(context_, count, &batch_[done]);
    if (taken <= 0) fail(-taken, "io_submit");
    done += static_cast<std::size_t>(taken);
    in_flight_ += static_cast<std::size_t>(taken);
    harvest();
    send_all();
  }
  batch_.clear();
}

void BareServer::harvest() {
  std::array<io_event, 256> events{};
  timespec at_once{};
  while (in_flight_ > 0) {
    const int count = ::io_getevents(context_, 0, events.size(), events.data(), &at_once);
    if (count < 0) fail(-count, "io_getevents");
    in_flight_ -= static_cast<std::size_t>(count);
    for (const auto& event : std::span(events).first(static_cast<std::size_t>(count))) {
      auto& slot = *static_cast<Slot*>(event.data);
      if (event.res != slot.request.length) fail(EIO, "a transfer");
      slot.client->answered.push_back(&slot);
      --slot.client->in_flight;
    }
    if (static_cast<std::size_t>(count) < events.size()) return;
  }
}

void BareServer::send_all() {
  for (const auto& client : clients_)
    if (!client->waits_for_room) send(*client);
}

void BareServer::send(Client& client) {
  while (!client.output.empty() || !client.answered.empty()) {
    if (client.output.empty()) begin_output(client);
    msghdr message{};
    message.msg_iov = &client.output[client.sent];
    message.msg_iovlen = std::min(client.output.size() - client.sent, vectors_max);
    const auto result = ::sendmsg(client.socket.get(), &message, MSG_NOSIGNAL);
    if (result < 0 && errno != EAGAIN) return forget(client);
    if (result < 0) {
      client.waits_for_room = true;
      return watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    for (auto rest = static_cast<std::size_t>(result); rest > 0;) {
      auto& vector = client.output[client.sent];
      const auto part = std::min(rest, vector.iov_len);
      vector = {static_cast<std::byte*>(vector.iov_base) + part, vector.iov_len - part};
      if (vector.iov_len == 0) ++client.sent;
      rest -= part;
    }
    if (client.sent < client.output.size()) continue;
    for (auto* const slot : client.sending)
      (slot->capacity == small_capacity ? free_small_ : free_large_).push_back(slot);
    client.sending.clear();
    client.output.clear();
    client.sent = 0;
  }
}

void BareServer::begin_output(Client& client) {
  client.sending.swap(client.answered);
  for (auto* const slot : client.sending) {
    proto::encode_simple_reply(slot->reply, slot->request.cookie, proto::Error::none);
    client.output.push_back({slot->reply.data(), slot->reply.size()});
    if (slot->request.command == proto::Command::read)
      client.output.push_back({slot->buffer.get(), slot->request.length});
  }
}

void BareServer::watch(Client& client, int operation, std::uint32_t events) const {
  epoll_event event{.events = events, .data = {.ptr = &client}};
  checked(::epoll_ctl(epoll_.get(), operation, client.socket.get(), &event), "epoll_ctl");
}

void BareServer::forget(Client& client) { client.socket = engine::FileDescriptor(); }

BareServer::Slot* BareServer::take(std::size_t length) {
  const auto capacity = length <= small_capacity ? small_capacity : large_capacity;
  if (length > capacity) fail(EMSGSIZE, "a request");
  auto& free = capacity == small_capacity ? free_small_ : free_large_;
  if (free.empty()) {
    auto* const slot = slots_.emplace_back(std::make_unique<Slot>()).get();
    slot->capacity = capacity;
    slot->buffer.reset(static_cast<std::byte*>(std::aligned_alloc(small_capacity, capacity)));
    if (!slot->buffer) fail(ENOMEM, "a buffer");
    return slot;
  }
  auto* const slot = free.back();
  free.pop_back();
  return slot;
}

}  // namespace bench
