// The plan of a change from one table of exports to another. Making it opens all that is new and
// changes nothing of what is served.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/config/bounds.h"
#include "server/config/config.h"
#include "server/export/export.h"
#include "server/export/export_queue.h"

namespace server {

// Names of exports, for reports.
struct ChangedNames {
  std::vector<std::string> added;
  std::vector<std::string> changed;
  std::vector<std::string> removed;

  bool empty() const noexcept { return added.empty() && changed.empty() && removed.empty(); }
};

struct ExportChanges {
  std::shared_ptr<const ExportTable> table;        // as it will be
  std::vector<std::shared_ptr<Export>> opened;     // exports of it that the present one lacks
  std::vector<std::shared_ptr<Export>> retired;    // exports that are no longer offered
  std::vector<std::shared_ptr<Export>> displaced;  // their file is served in another way from now
  std::vector<std::vector<LooseQueue>> queues;     // of `opened`, for each worker
  ChangedNames names;
};

// `gone`: exports that left earlier and still have clients. Opens devices and queues, so it may
// block. Throws UserError or std::runtime_error with a message for people.
ExportChanges plan_changes(const ExportTable& current,
                           const std::vector<std::shared_ptr<Export>>& gone,
                           std::vector<ExportConfig> configs, const Bounds& bounds);

}  // namespace server
