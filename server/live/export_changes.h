// What it takes to get from one table of exports to another: everything new is opened, nothing is
// changed yet.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/blocking_pool.h"
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
  std::vector<std::shared_ptr<Export>> arriving;   // those of it that are new
  std::vector<std::shared_ptr<Export>> leaving;    // those that are no longer offered
  std::vector<std::shared_ptr<Export>> displaced;  // their file is served in another way from now
  std::vector<std::vector<LooseQueue>> queues;     // of `arriving`, for each worker
  ChangedNames names;
};

// `gone`: exports that left earlier and still have clients. Opens devices and queues, so it may
// block. Throws UserError or std::runtime_error with a message for people.
ExportChanges plan_changes(const ExportTable& current,
                           const std::vector<std::shared_ptr<Export>>& gone,
                           std::vector<ExportConfig> configs, const Bounds& bounds,
                           engine::BlockingPool& pool);

}  // namespace server
