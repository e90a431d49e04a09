// The handshake of one connection: pumps bytes between a transport and proto::Negotiation.
#pragma once

#include <memory>
#include <optional>

#include "server/base/asio.h"
#include "server/config/bounds.h"
#include "server/export/export.h"
#include "server/net/tls_credentials.h"
#include "server/net/transport.h"
#include "server/policy/writer_leases.h"
#include "server/serving/client_state.h"

namespace server {

// A client in front of its transmission phase: its state as a value, and what this process holds
// for it.
struct Handshake {
  ClientState state;
  std::shared_ptr<Export> target;
  WriterLease lease;  // where the client may write
};

// Holds for a client that has negotiated what a handshake would have held. Nothing: the export is
// not in `exports`, or the client would write and is not among its writers any more.
std::optional<Handshake> resume_handshake(ClientState state, const ExportTable& exports);

// Runs until the client has chosen an export, or nothing when the connection is to be closed. The
// client chooses from what `exports` is at each moment, and on the terms of TLS of that moment. The
// caller enforces the deadline by closing the transport, which ends it. STARTTLS replaces the
// transport. `tls`: nullptr where there is none. The arguments outlive the coroutine.
Awaitable<std::optional<Handshake>> negotiate(std::unique_ptr<Transport>& transport,
                                              const std::shared_ptr<const ExportTable>& exports,
                                              const Bounds& bounds,
                                              std::shared_ptr<const TlsContext> tls);

// Ends the output and reads what the client still sends until it closes, so that nothing sent
// before is lost to a reset of the connection. The caller enforces a deadline in the same way.
Awaitable<void> linger(Transport& transport);

}  // namespace server
