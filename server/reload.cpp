#include "server/reload.h"

#include <csignal>
#include <exception>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/base/blocking_task.h"
#include "server/base/log.h"
#include "server/base/text.h"
#include "server/base/user_error.h"

namespace server {

// A configuration that was read and what was opened for it, before anything changes.
struct Reload::Prepared {
  Config config;
  std::unique_ptr<TlsContext> tls;
  std::vector<Listeners::Opened> sockets;
};

Reload::Reload(const Targets& targets, std::function<Config()> reread)
    : targets_(targets), reread_(std::move(reread)), signal_(targets.io_context) {
  if (reread_) signal_.add(SIGHUP);
}

void Reload::start() {
  if (!reread_) return;
  signal_.async_wait([this](const boost::system::error_code& cancelled, int) {
    if (cancelled) return;
    start();
    asio::co_spawn(targets_.io_context, run_and_log(), asio::detached);
  });
}

Awaitable<void> Reload::run_and_log() {
  try {
    co_await run(Departure::keep);
  } catch (const std::exception& failure) {
    log::error("the configuration stays as it was: {}", failure.what());
  }
}

Awaitable<Reloaded> Reload::run(Departure departure) {
  if (!reread_) throw UserError("there is no file to read again: start it with --config");
  if (ended_) throw UserError("the server is ending");
  if (running_) throw UserError("another reload is under way");
  running_ = true;
  targets_.notify.reloading();
  const auto over =
      std::unique_ptr<Reload, void (*)(Reload*)>(this, [](Reload* self) { self->end_run(); });
  const auto prepared = co_await prepare();
  auto reloaded = Reloaded{};
  reloaded.need_restart = keys_for_restart(targets_.config, prepared->config);
  auto edit = LiveExports::Edit(
      [prepared](const LiveExports::Configs&) { return prepared->config.exports; });
  const auto before = targets_.exports.table();
  auto terms = LiveExports::Terms{};
  terms.departure = departure;
  terms.reopen_replaced = true;
  // The stricter goes first: clients that negotiate at this moment get neither a new export in
  // plaintext where TLS is required from now on, nor an old one where it is no longer.
  const auto stricter = prepared->config.tls.mode == proto::TlsMode::require;
  if (stricter) terms.before_commit = [this, prepared] { put_into_use(Effect::tls, *prepared); };
  reloaded.exports = co_await targets_.exports.change(std::move(edit), std::move(terms));
  commit(*prepared);
  warn_of_removed(*before, reloaded.exports.removed);
  log::info("the configuration was read again; exports added: {}; changed: {}; removed: {}",
            joined(reloaded.exports.added), joined(reloaded.exports.changed),
            joined(reloaded.exports.removed));
  if (!reloaded.need_restart.empty())
    log::warn("not in use before a restart: the new values of {}", joined(reloaded.need_restart));
  co_return reloaded;
}

// An export of the file is removed because somebody has taken it out; of others nobody may think.
void Reload::warn_of_removed(const ExportTable& before,
                             const std::vector<std::string>& removed) const {
  for (const auto& name : removed)
    if (const auto target = before.find(name); target && target->config().places.by_key.empty())
      log::warn(
          "export \"{}\" is no longer offered: the configuration does not have it, only `loopnbd "
          "ctl add` had; its clients go on with it",
          name);
}

void Reload::end_run() {
  running_ = false;
  if (!ended_) targets_.notify.ready();
}

Awaitable<std::shared_ptr<Reload::Prepared>> Reload::prepare() {
  auto prepared = std::make_shared<Prepared>();
  const auto reading = std::function<void()>([prepared, reread = reread_] {
    prepared->config = reread();
    prepared->tls = std::make_unique<TlsContext>(prepared->config.tls);
  });
  co_await open_in_time(targets_.io_context, targets_.pool, reading);
  prepared->sockets = targets_.listeners.prepare(prepared->config.listen);
  co_return prepared;
}

void Reload::commit(Prepared& prepared) {
  auto effects = std::set<Effect>{};
  for (const auto& key : server_keys()) effects.insert(key.effect);
  for (const auto effect : effects) put_into_use(effect, prepared);
  take_over(targets_.config, prepared.config);
}

void Reload::put_into_use(Effect effect, Prepared& prepared) {
  switch (effect) {
    case Effect::listeners:
      if (!ended_) targets_.listeners.commit(prepared.config.listen, std::move(prepared.sockets));
      return;
    case Effect::tls:
      if (prepared.tls != nullptr) targets_.tls.exchange(*std::exchange(prepared.tls, nullptr));
      return;
    case Effect::log:
      // An operator may have changed the level meanwhile, which lasts until the file says another.
      if (prepared.config.log_level != targets_.config.log_level)
        log::set_level(prepared.config.log_level);
      return;
    case Effect::exports:
    case Effect::reopen:
    case Effect::restart:
      return;
  }
}

}  // namespace server
