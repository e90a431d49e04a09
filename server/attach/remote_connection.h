// A connection to an export of another server, negotiated and ready for the kernel's client.
#pragma once

#include <chrono>

#include "engine/file_descriptor.h"
#include "proto/client_negotiation.h"
#include "server/attach/remote_address.h"

namespace server {

struct RemoteConnection {
  engine::FileDescriptor socket;
  proto::RemoteExport remote_export;
};

// Blocks until the handshake is over, at most until the deadline (and as long as the name service
// takes). Throws std::runtime_error whose message says what failed at which address.
RemoteConnection connect_remote(const RemoteAddress& address, std::chrono::milliseconds deadline);

// Ends a connection so that nothing which it still has to send can ever arrive: a broken network
// may be mended later. Other holders of the socket find it dead.
void abort_connection(int socket) noexcept;

}  // namespace server
