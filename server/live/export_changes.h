// The plan of a change from one table of exports to another. Making it opens all that is new and
// changes nothing of what is served; neither does its end, unless it was committed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/block_device.h"
#include "engine/sync_errors.h"
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
  std::vector<std::shared_ptr<Export>> replaced;   // of `retired`: their path is another file's
  std::vector<std::vector<LooseQueue>> queues;     // of `opened`, for each worker
  std::vector<std::shared_ptr<engine::BlockDevice>> devices;  // of `opened`, those that are new
  ChangedNames names;
};

// The terms of a plan.
struct PlanTerms {
  // Exports whose path leads to another file by now are opened again.
  bool reopen_replaced = false;
  std::shared_ptr<engine::SyncErrors> sync_errors = nullptr;
};

// `gone`: exports that left earlier and still have clients. Opens devices and queues, so it may
// block. Throws UserError or std::runtime_error with a message for people.
ExportChanges plan_changes(const ExportTable& current,
                           const std::vector<std::shared_ptr<Export>>& gone,
                           std::vector<ExportConfig> configs, const Bounds& bounds,
                           const PlanTerms& terms = {});

// The last step of a change that may fail: the new devices take over the locks of those that give
// way. Throws UserError. When it has thrown, or the plan ends without commit_devices(), the locks
// are where they were. Both may block.
void claim_devices(const ExportChanges& changes);
void commit_devices(const ExportChanges& changes) noexcept;

}  // namespace server
