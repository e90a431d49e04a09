// The design without the product: one thread takes as many requests as there are out of
// a socket, hands them to an O_DIRECT file in batches, and answers what is done in one system call.
// A measure for the bench, not a server: it checks nothing, limits nothing, and gives up on any
// error. READ and WRITE are carried out, FLUSH and the rest are only answered.
#pragma once

#include <libaio.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/file_descriptor.h"
#include "proto/reply.h"
#include "proto/request.h"

namespace bench {

class BareServer {
 public:
  // Serves the file at `path` to clients of the Unix socket at `socket_path`. Throws
  // std::system_error.
  BareServer(const std::string& path, const std::string& socket_path);
  ~BareServer();
  BareServer(const BareServer&) = delete;
  BareServer& operator=(const BareServer&) = delete;

  // Until the process is ended. Throws std::system_error.
  [[noreturn]] void run();

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  struct Client;

  // A request from its header to its reply.
  struct Slot {
    iocb block{};
    Client* client = nullptr;
    proto::RequestHeader request;
    std::array<std::byte, proto::simple_reply_size> reply{};
    std::size_t capacity = 0;  // bytes
    std::unique_ptr<std::byte, Free> buffer;
  };

  struct Client {
    engine::FileDescriptor socket;
    std::vector<std::byte> input;  // received and not consumed: from `begin` to `end`
    std::size_t begin = 0;
    std::size_t end = 0;
    Slot* filling = nullptr;    // a WRITE whose payload is on its way
    std::size_t filled = 0;     // bytes
    std::size_t in_flight = 0;  // requests that the kernel has, or will get
    std::vector<Slot*> answered;
    std::vector<Slot*> sending;
    std::vector<iovec> output;  // the replies of `sending`
    std::size_t sent = 0;       // vectors of `output`
    bool waits_for_room = false;
  };

  void welcome();
  void receive(Client& client);
  void parse(Client& client);
  void prepare(Slot& slot);
  void submit();
  void harvest();
  void send(Client& client);
  void send_all();
  void watch(Client& client, int operation, std::uint32_t events) const;
  static void forget(Client& client);
  void begin_output(Client& client);
  Slot* take(std::size_t length);

  const engine::FileDescriptor file_;
  const std::uint64_t size_;  // bytes
  const engine::FileDescriptor listener_;
  const engine::FileDescriptor epoll_;
  const engine::FileDescriptor wakeup_;
  io_context_t context_ = nullptr;
  std::size_t in_flight_ = 0;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<Slot*> free_small_;
  std::vector<Slot*> free_large_;
  std::vector<iocb*> batch_;
};

}  // namespace bench
