#include "server/serving/client_directory.h"

#include "server/base/log.h"

namespace server {

std::vector<proto::ExportDescription> ClientDirectory::list() {
  auto descriptions = std::vector<proto::ExportDescription>{};
  for (const auto& entry : exports_->all())
    if (entry->config().access.may_use(client_))
      descriptions.push_back(entry->describe(may_write(*entry)));
  return descriptions;
}

std::optional<proto::ExportDescription> ClientDirectory::find(std::string_view name) {
  const auto found = usable(name);
  if (found == nullptr) return std::nullopt;
  const auto writable = may_write(*found) && found->may_take_writer(client_.host);
  return found->describe(writable);
}

proto::ExportDescription ClientDirectory::choose(const proto::ExportDescription& found) {
  chosen_ = usable(found.name);
  lease_.release();
  if (!may_write(*chosen_)) return found;
  lease_ = chosen_->take_writer(client_.host);
  if (!lease_)
    log::connection({.client = client_.name, .export_name = chosen_->name()},
                    "{}: \"{}\" is read-only for it while {} may write (writers = {})",
                    client_.name, chosen_->name(), chosen_->writers(),
                    chosen_->config().writers_max);
  return chosen_->describe(static_cast<bool>(lease_));
}

// The empty name stands for the first export that the client may use.
std::shared_ptr<Export> ClientDirectory::usable(std::string_view name) const {
  for (const auto& entry : exports_->all())
    if ((name.empty() || entry->name() == name) && entry->config().access.may_use(client_))
      return entry;
  return nullptr;
}

bool ClientDirectory::may_write(const Export& target) const {
  return !target.device()->geometry().read_only && target.config().access.may_write(client_);
}

}  // namespace server
