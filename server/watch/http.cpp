#include "server/watch/http.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/serialize.hpp>
#include <string_view>
#include <utility>

#include "server/base/log.h"
#include "server/policy/access.h"
#include "server/watch/exposition.h"
#include "server/watch/http_request.h"
#include "server/watch/status_json.h"
#include "server/watch/status_page.h"

namespace server {
namespace {

namespace http = boost::beast::http;

using Socket = asio::basic_stream_socket<asio::generic::stream_protocol, Executor>;
using HttpResponse = http::response<http::string_body>;

constexpr std::size_t sessions_max = 16;

// Nothing but this page, its style and its script, and what it asks of this server.
constexpr std::string_view page_policy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

asio::generic::stream_protocol protocol_of(int socket) {
  auto address = sockaddr_storage{};
  auto length = socklen_t{sizeof address};
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  return {address.ss_family, 0};
}

// Such a connection does not leave this machine.
bool is_on_loopback(const ClientIdentity& client) {
  static const auto loopback =
      std::array{parse_client_pattern("127.0.0.0/8"), parse_client_pattern("::1")};
  return std::ranges::any_of(loopback,
                             [&](const auto& pattern) { return matches(pattern, client); });
}

HttpResponse text(http::status status, std::string body) {
  auto response = HttpResponse(status, 11, std::move(body));
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  return response;
}

HttpResponse health(const ServerStatus& status) {
  for (auto index = std::size_t{0}; index < status.workers.size(); ++index)
    if (!status.workers[index].responding)
      return text(http::status::service_unavailable,
                  fmt::format("worker {} does not respond\n", index));
  return text(http::status::ok, "ok\n");
}

HttpResponse readiness(const ServerStatus& status) {
  if (status.draining)
    return text(http::status::service_unavailable, "draining: no new connections\n");
  if (!status.listening) return text(http::status::service_unavailable, "not listening\n");
  return text(http::status::ok, "ready\n");
}

HttpResponse metrics(const ServerStatus& status) {
  auto response = text(http::status::ok, exposition_of(status));
  response.set(http::field::content_type, boost::beast::string_view(exposition_type));
  return response;
}

HttpResponse status_document(const ServerStatus& status) {
  auto response = text(http::status::ok, boost::json::serialize(json_of(status)) + '\n');
  response.set(http::field::content_type, "application/json");
  response.set(http::field::vary, "Accept");
  return response;
}

HttpResponse page() {
  auto response = text(http::status::ok, std::string(status_page));
  response.set(http::field::content_type, "text/html; charset=utf-8");
  response.set("Content-Security-Policy", boost::beast::string_view(page_policy));
  response.set(http::field::vary, "Accept");
  return response;
}

HttpResponse refuse_host() {
  return text(http::status::misdirected_request,
              "this address is of this machine alone: ask for localhost or 127.0.0.1\n");
}

HttpResponse refuse_method() {
  auto response = text(http::status::method_not_allowed, "only GET and HEAD are served here\n");
  response.set(http::field::allow, "GET, HEAD");
  return response;
}

HttpResponse not_found() {
  return text(http::status::not_found,
              "there is /healthz, /readyz, /metrics, /status (a page) and /status.json\n");
}

}  // namespace

// One client. Lives as long as its coroutine.
class HttpServer::Session {
 public:
  Session(asio::io_context& io_context, Socket socket, bool of_this_machine,
          const HttpServer& server)
      : socket_(std::move(socket)),
        deadline_(io_context),
        of_this_machine_(of_this_machine),
        ask_(server.ask_),
        request_deadline_(server.request_deadline_) {}

  static Awaitable<void> run(std::shared_ptr<Session> self) {
    auto go_on = true;
    while (go_on) {
      self->limit_time(self);
      go_on = co_await self->serve_request();
    }
    self->deadline_.cancel();
    self->close();
  }

  void close() noexcept {
    auto ignored = boost::system::error_code{};
    if (socket_.is_open()) socket_.close(ignored);
  }

 private:
  void limit_time(const std::shared_ptr<Session>& self) {
    deadline_.expires_after(request_deadline_);
    deadline_.async_wait([weak = std::weak_ptr(self)](const boost::system::error_code& cancelled) {
      const auto session = weak.lock();
      if (!cancelled && session) session->close();
    });
  }

  // False: the connection is over.
  Awaitable<bool> serve_request() {
    auto parser = HttpParser();
    bound_request(parser);
    const auto [failure, size] = co_await http::async_read(socket_, input_, parser, as_result);
    if (failure) {
      // A client whose request is none of HTTP is told so; one that has gone or was too slow is
      // not.
      if (failure.category() != http::make_error_code(http::error::bad_method).category() ||
          failure == http::error::end_of_stream || failure == http::error::partial_message)
        co_return false;
      auto refusal = text(http::status::bad_request, failure.message() + '\n');
      refusal.keep_alive(false);
      co_await send(std::move(refusal));
      co_return false;
    }
    const auto request = parser.release();
    auto response = co_await answer(judge_request(request, of_this_machine_));
    response.version(request.version());
    response.keep_alive(request.keep_alive());
    response.prepare_payload();
    if (request.method() == http::verb::head) response.body().clear();
    const auto sent = co_await send(std::move(response));
    if (!sent) co_return false;
    co_return request.keep_alive();
  }

  Awaitable<HttpResponse> answer(HttpSubject subject) {
    switch (subject) {
      case HttpSubject::wrong_method:
        co_return refuse_method();
      case HttpSubject::name_of_others:
        co_return refuse_host();
      case HttpSubject::status_page:
        co_return page();
      case HttpSubject::nothing_here:
        co_return not_found();
      default:
        break;
    }
    const auto status = co_await ask_();
    switch (subject) {
      case HttpSubject::health:
        co_return health(status);
      case HttpSubject::readiness:
        co_return readiness(status);
      case HttpSubject::metrics:
        co_return metrics(status);
      default:
        co_return status_document(status);
    }
  }

  Awaitable<bool> send(HttpResponse response) {
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    const auto [failure, size] = co_await http::async_write(socket_, response, as_result);
    co_return !failure;
  }

  Socket socket_;
  Timer deadline_;
  const bool of_this_machine_;  // its client is here, too
  const AskStatus& ask_;
  const std::chrono::milliseconds request_deadline_;
  boost::beast::flat_buffer input_{http_header_size_max + 1024};
};

HttpServer::HttpServer(asio::io_context& io_context, std::vector<ListeningSocket> sockets,
                       AskStatus ask, std::chrono::milliseconds request_deadline)
    : io_context_(io_context), ask_(std::move(ask)), request_deadline_(request_deadline) {
  for (auto& socket : sockets)
    listeners_.push_back(std::make_unique<Listener>(
        io_context, std::move(socket),
        [this](engine::FileDescriptor client, const ClientIdentity& identity) {
          accept(std::move(client), is_on_loopback(identity));
        }));
}

HttpServer::~HttpServer() = default;

std::vector<std::string> HttpServer::names() const {
  auto names = std::vector<std::string>{};
  for (const auto& listener : listeners_) names.push_back(listener->name());
  return names;
}

void HttpServer::accept(engine::FileDescriptor client, bool of_this_machine) {
  auto socket = Socket(io_context_);
  auto failure = boost::system::error_code{};
  socket.assign(protocol_of(client.get()), client.get(), failure);
  if (failure) return log::connection({}, "an HTTP client was refused: {}", failure.message());
  client.release();
  std::erase_if(sessions_, [](const auto& session) { return session.expired(); });
  if (sessions_.size() >= sessions_max) {
    if (const auto oldest = sessions_.front().lock()) oldest->close();
    sessions_.erase(sessions_.begin());
  }
  auto session = std::make_shared<Session>(io_context_, std::move(socket), of_this_machine, *this);
  sessions_.push_back(session);
  asio::co_spawn(io_context_, Session::run(std::move(session)), asio::detached);
}

}  // namespace server
