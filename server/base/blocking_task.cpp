#include "server/base/blocking_task.h"

#include <fmt/format.h>

#include <exception>
#include <memory>
#include <utility>

#include "server/base/event.h"
#include "server/base/user_error.h"

namespace server {
namespace {

// A file system that hangs holds up other changes for so long.
constexpr auto opening_deadline = std::chrono::seconds(60);

struct Task final : engine::BlockingPool::Job, std::enable_shared_from_this<Task> {
  Task(asio::io_context& context, std::function<void()> function)
      : io_context(context), work(std::move(function)), ended(context) {}

  void run() noexcept override {
    auto self = std::exchange(myself, nullptr);
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    work = nullptr;
    // All of it belongs to the thread of io_context from now on, what was thrown with it.
    asio::post(io_context, [self = std::move(self)] {
      self->done = true;
      self->ended.signal();
    });
  }

  asio::io_context& io_context;
  std::function<void()> work;
  std::exception_ptr failure;
  std::shared_ptr<Task> myself;  // while the pool has it
  Event ended;
  // For the thread of io_context.
  bool done = false;
  bool given_up = false;  // its caller does not wait any more
};

struct DetachedTask final : engine::BlockingPool::Job {
  explicit DetachedTask(std::function<void()> function) : work(std::move(function)) {}

  void run() noexcept override {
    const auto self = std::unique_ptr<DetachedTask>(this);
    work();
  }

  std::function<void()> work;
};

}  // namespace

Awaitable<void> run_blocking(asio::io_context& io_context, engine::BlockingPool& pool,
                             const std::function<void()>& work) {
  const auto task = std::make_shared<Task>(io_context, work);
  task->myself = task;
  pool.run(*task);
  while (!task->done) co_await task->ended.wait();
  if (task->failure) std::rethrow_exception(task->failure);
}

Awaitable<bool> run_blocking_for(asio::io_context& io_context, engine::BlockingPool& pool,
                                 const std::function<void()>& work, std::chrono::seconds longest) {
  const auto task = std::make_shared<Task>(io_context, work);
  task->myself = task;
  auto timer = Timer(io_context, longest);
  timer.async_wait([task](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    task->given_up = true;
    task->ended.signal();
  });
  pool.run(*task);
  while (!task->done && !task->given_up) co_await task->ended.wait();
  if (!task->done) co_return false;
  if (task->failure) std::rethrow_exception(task->failure);
  co_return true;
}

Awaitable<void> open_in_time(asio::io_context& io_context, engine::BlockingPool& pool,
                             const std::function<void()>& work) {
  const auto ended = co_await run_blocking_for(io_context, pool, work, opening_deadline);
  if (!ended)
    throw UserError(
        fmt::format("nothing has changed: what is new could not be opened within {} s; does its "
                    "file system answer?",
                    opening_deadline.count()));
}

void run_detached(engine::BlockingPool& pool, std::function<void()> work) {
  auto task = std::make_unique<DetachedTask>(std::move(work));
  pool.run(*task.release());
}

}  // namespace server
