#include "server/attach/attachment_loop.h"

#include <csignal>
#include <cstring>
#include <exception>
#include <iostream>
#include <utility>

#include "server/base/log.h"

namespace server {

AttachmentLoop::AttachmentLoop(AttachedDevice& device, Daemon& daemon)
    : device_(device),
      daemon_(daemon),
      io_context_(1),
      signals_(io_context_, SIGTERM, SIGINT),
      link_death_(io_context_, link_deaths_.fd()) {}

AttachmentLoop::~AttachmentLoop() {
  if (quiescer_.joinable()) quiescer_.join();
  link_death_.release();
}

void AttachmentLoop::run(std::function<void()> link_died) {
  link_died_ = std::move(link_died);
  wait_for_signal();
  wait_for_link_death();
  std::cout << device_.path() << std::endl;
  daemon_.ready();
  if (!ended_) io_context_.run();
}

void AttachmentLoop::end() noexcept {
  ended_ = true;
  io_context_.stop();
}

void AttachmentLoop::wait_for_signal() {
  signals_.async_wait([this](const boost::system::error_code& cancelled, int number) {
    if (cancelled || ended_) return;
    log::info("{}: writing out what is cached of {}, then detaching it", ::strsignal(number),
              device_.path());
    quiesce();
  });
}

void AttachmentLoop::wait_for_link_death() {
  link_death_.async_wait(Descriptor::wait_read, [this](const boost::system::error_code& failure) {
    if (failure) return;
    if (link_deaths_.take(device_.index()) > 0) link_died_();
    wait_for_link_death();
  });
}

void AttachmentLoop::quiesce() {
  if (quiescer_.joinable()) quiescer_.join();
  quiescer_ = std::thread([this] {
    auto device = engine::FileDescriptor();
    auto failure = std::string();
    try {
      device = quiesce_nbd_device(device_.index());
    } catch (const std::exception& error) {
      failure = error.what();
    }
    asio::post(io_context_, [this, device = std::move(device), failure]() mutable {
      quiesced(std::move(device), failure);
    });
  });
}

void AttachmentLoop::quiesced(engine::FileDescriptor device, const std::string& failure) {
  if (!device) {
    // Ending now would take the disk away from under a file system.
    log::error("{}; going on", failure);
    return wait_for_signal();
  }
  daemon_.stopping();
  try {
    device_.disconnect();
    end();
  } catch (const std::exception& error) {
    log::error("{}; going on", error.what());
    wait_for_signal();
  }
}

}  // namespace server
