// The exports as one client sees them: those it may use, writable where it may write. Belongs to
// the handshake of one connection.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/negotiation.h"
#include "server/export/export.h"
#include "server/policy/client_identity.h"
#include "server/policy/writer_leases.h"

namespace server {

class ClientDirectory final : public proto::ExportDirectory {
 public:
  // `exports` outlives it, and may become another table between two calls.
  ClientDirectory(const std::shared_ptr<const ExportTable>& exports, ClientIdentity client)
      : exports_(exports), client_(std::move(client)) {}

  // TLS has told more of the client.
  void set_client(ClientIdentity client) { client_ = std::move(client); }

  std::vector<proto::ExportDescription> list() override;
  std::optional<proto::ExportDescription> find(std::string_view name) override;
  proto::ExportDescription choose(const proto::ExportDescription& found) override;

  // The export that was chosen last, and the right to write to it, if any.
  const std::shared_ptr<Export>& chosen() const noexcept { return chosen_; }
  WriterLease take_lease() noexcept { return std::move(lease_); }

 private:
  std::shared_ptr<Export> usable(std::string_view name) const;
  bool may_write(const Export& target) const;

  const std::shared_ptr<const ExportTable>& exports_;
  ClientIdentity client_;
  std::shared_ptr<Export> chosen_;
  WriterLease lease_;
};

}  // namespace server
