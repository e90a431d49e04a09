#include "server/live/export_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/base/user_error.h"
#include "server/config/keys.h"
#include "server/export/open_export.h"

namespace server {
namespace {

class Planner {
 public:
  Planner(const ExportTable& current, const std::vector<std::shared_ptr<Export>>& gone,
          const Bounds& bounds, const PlanTerms& terms)
      : bounds_(bounds),
        terms_(terms),
        current_(current),
        replaceable_(current.all()),
        gone_(gone) {}

  ExportChanges plan(std::vector<ExportConfig> configs) {
    auto exports = std::vector<std::shared_ptr<Export>>(configs.size());
    // The exports that stay are known before anything is opened: only the others can give way.
    for (auto index = std::size_t{0}; index < configs.size(); ++index)
      exports[index] = keep(configs[index]);
    changes_.retired = replaceable_;
    replaceable_.insert(replaceable_.end(), gone_.begin(), gone_.end());
    for (auto index = std::size_t{0}; index < configs.size(); ++index)
      if (exports[index] == nullptr) exports[index] = make(std::move(configs[index]));
    name_changes();
    for (auto worker = 0U; worker < bounds_.workers; ++worker) {
      auto& queues = changes_.queues.emplace_back();
      for (const auto& target : changes_.opened)
        queues.push_back(make_queue(target, bounds_.queue_depth));
    }
    changes_.table = std::make_shared<const ExportTable>(std::move(exports));
    return std::move(changes_);
  }

 private:
  // The export of the present table that is described by `config` already.
  std::shared_ptr<Export> keep(const ExportConfig& config) {
    const auto same = std::ranges::find_if(
        replaceable_, [&](const auto& entry) { return entry->config() == config; });
    if (same == replaceable_.end()) return nullptr;
    if (is_replaced(**same)) {
      changes_.replaced.push_back(*same);
      return nullptr;
    }
    auto kept = std::move(*same);
    replaceable_.erase(same);
    return kept;
  }

  bool is_replaced(const Export& target) const {
    return terms_.reopen_replaced && !target.device()->is_at_path();
  }

  // Its device has left its lock to another one. It serves the clients that it has, and no others.
  bool has_given_way(const Export& target) const {
    const auto replaces = [&](const auto& entry) { return entry->replaces(target); };
    return std::ranges::any_of(current_.all(), replaces) || std::ranges::any_of(gone_, replaces);
  }

  std::shared_ptr<Export> make(ExportConfig config) {
    auto device = std::shared_ptr<engine::BlockDevice>{};
    for (const auto& entry : replaceable_)
      if (device == nullptr && has_same_device(entry->config(), config) && !is_replaced(*entry) &&
          !has_given_way(*entry))
        device = entry->device();
    if (device == nullptr) device = open(config);
    auto replaced = std::vector<std::weak_ptr<const Export>>{};
    for (const auto& entry : replaceable_) {
      // A successor waits for all that its predecessor has had to wait for.
      if (entry->device() == device)
        replaced.insert(replaced.end(), entry->replaces().begin(), entry->replaces().end());
      if (entry->device() == device || !conflicts(*entry->device(), *device)) continue;
      replaced.emplace_back(entry);
      changes_.displaced.push_back(entry);
    }
    auto made = std::make_shared<Export>(std::move(config), device, bounds_, std::move(replaced));
    for (const auto& entry : replaceable_)
      if (entry->device() == device) made->share_with(*entry);
    // A monitor knows an export by its name, and its counters must not go back. Exports of the
    // present table come first.
    const auto namesake = std::ranges::find(replaceable_, made->name(), &Export::name);
    if (namesake != replaceable_.end()) made->count_on(**namesake);
    return changes_.opened.emplace_back(std::move(made));
  }

  std::shared_ptr<engine::BlockDevice> open(const ExportConfig& config) {
    auto context = engine::OpenContext{};
    context.sync_errors = terms_.sync_errors;
    for (const auto& entry : replaceable_) context.predecessors.push_back(entry->device());
    return changes_.devices.emplace_back(open_export(config, std::move(context)));
  }

  // Two read-only devices may serve one file; two windows of it might share a block.
  static bool conflicts(const engine::BlockDevice& one, const engine::BlockDevice& other) {
    return one.same_store(other) && !(one.geometry().read_only && other.geometry().read_only);
  }

  void name_changes() {
    const auto names = [](const auto& exports, const auto& others, bool in_both) {
      auto found = std::vector<std::string>{};
      for (const auto& entry : exports) {
        const auto other = std::ranges::any_of(
            others, [&](const auto& that) { return that->name() == entry->name(); });
        if (other == in_both) found.push_back(entry->name());
      }
      return found;
    };
    changes_.names.added = names(changes_.opened, changes_.retired, false);
    changes_.names.changed = names(changes_.opened, changes_.retired, true);
    changes_.names.removed = names(changes_.retired, changes_.opened, false);
  }

  const Bounds& bounds_;
  const PlanTerms& terms_;
  const ExportTable& current_;
  std::vector<std::shared_ptr<Export>> replaceable_;
  const std::vector<std::shared_ptr<Export>>& gone_;
  ExportChanges changes_;
};

}  // namespace

ExportChanges plan_changes(const ExportTable& current,
                           const std::vector<std::shared_ptr<Export>>& gone,
                           std::vector<ExportConfig> configs, const Bounds& bounds,
                           const PlanTerms& terms) {
  return Planner(current, gone, bounds, terms).plan(std::move(configs));
}

void claim_devices(const ExportChanges& changes) {
  for (const auto& target : changes.opened) {
    const auto device = target->device();
    if (std::ranges::count(changes.devices, device) == 0) continue;
    if (const auto error = device->claim(); error != 0)
      throw UserError(target->config().at_place(
          "path",
          fmt::format("export \"{}\": cannot lock {} for writing: {}; another program or another "
                      "export of this server reads it. Stop that first",
                      target->name(), target->path(), std::strerror(-error))));
  }
}

void commit_devices(const ExportChanges& changes) noexcept {
  for (const auto& device : changes.devices) device->commit();
}

}  // namespace server
