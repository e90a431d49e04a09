#include "server/net/tls_transport.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

#include "proto/text.h"
#include "server/base/blocking_task.h"
#include "server/base/log.h"

namespace server {
namespace {

// Whether a key that both sides share has authenticated the session. A user name that the client
// has merely mentioned proves nothing.
bool authenticated_by_key(const SSL* session) {
  // Sessions are never resumed, so that in TLS 1.3 only a pre-shared key can be what was "reused".
  if (SSL_version(session) >= TLS1_3_VERSION) return SSL_session_reused(session) == 1;
  return SSL_CIPHER_get_auth_nid(SSL_get_current_cipher(session)) == NID_auth_psk;
}

// Before each call: what it leaves behind is then its own.
void forget_errors() noexcept {
  ERR_clear_error();
  errno = 0;
}

// A name with a zero byte is none: a reader who stops there would take it for another.
void add_name(std::vector<CertificateName>& names, std::string_view attribute,
              const ASN1_STRING* value) {
  unsigned char* text = nullptr;
  const auto length = ASN1_STRING_to_UTF8(&text, value);
  if (length < 0) return;
  const auto name =
      std::string(reinterpret_cast<const char*>(text), static_cast<std::size_t>(length));
  OPENSSL_free(text);
  if (name.find('\0') == std::string::npos)
    names.push_back({.attribute = std::string(attribute), .value = name});
}

std::vector<CertificateName> names_of(const X509* certificate) {
  auto names = std::vector<CertificateName>{};
  const auto* const subject = X509_get_subject_name(certificate);
  for (auto index = 0; index < X509_NAME_entry_count(subject); ++index) {
    const auto* const entry = X509_NAME_get_entry(subject, index);
    add_name(names, OBJ_nid2sn(OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry))),
             X509_NAME_ENTRY_get_data(entry));
  }
  auto* const others = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (auto index = 0; index < sk_GENERAL_NAME_num(others); ++index) {
    const auto* const other = sk_GENERAL_NAME_value(others, index);
    if (other->type == GEN_DNS) add_name(names, "DNS", other->d.dNSName);
    if (other->type == GEN_URI) add_name(names, "URI", other->d.uniformResourceIdentifier);
    if (other->type == GEN_EMAIL) add_name(names, "email", other->d.rfc822Name);
  }
  GENERAL_NAMES_free(others);
  return names;
}

std::string failure_text(const SSL* session) {
  const auto verdict = SSL_get_verify_result(session);
  auto text = take_tls_error();
  if (verdict != X509_V_OK) text += fmt::format(" ({})", X509_verify_cert_error_string(verdict));
  return text;
}

}  // namespace

TlsTransport::TlsTransport(Stream stream, std::shared_ptr<const TlsCredentials> credentials)
    : Transport(std::move(stream)),
      credentials_(std::move(credentials)),
      session_(credentials_->make_session(*this)) {
  if (!session_) return;
  SSL_set_rfd(session_.get(), stream_.input.native_handle());
  SSL_set_wfd(session_.get(), writable().native_handle());
  SSL_set_accept_state(session_.get());
}

TlsTransport::~TlsTransport() = default;

void TlsTransport::FreeSession::operator()(ssl_st* session) const noexcept { SSL_free(session); }

std::span<const unsigned char> TlsTransport::find_key(std::string_view user) {
  claimed_user_ = user;
  return credentials_->key_of(user);
}

Awaitable<bool> TlsTransport::shake_hands() {
  auto step = co_await take_step();
  while (step == Step::again) {
    const auto [failure] = co_await wait_readable(as_result);
    if (failure) co_return false;
    step = co_await take_step();
  }
  if (step == Step::done) {
    established_ = true;
    note_identity();
    log::connection({.client = peer()}, "{}: {}", peer(), protection());
    co_return true;
  }
  broken_ = true;
  end_ = -EPROTO;
  if (is_open())
    log::connection({.client = peer()}, "{}: the TLS handshake failed: {}", peer(), step_failure_);
  co_return false;
}

Awaitable<TlsTransport::Step> TlsTransport::take_step() {
  if (!is_open() || !session_) co_return Step::failed;
  const auto executor = co_await asio::this_coro::executor;
  const auto work = std::function<void()>([this] { step(); });
  stepping_ = true;
  co_await run_blocking(executor.context(), credentials_->handshake_pool(), work);
  stepping_ = false;
  if (closed_meanwhile_.load(std::memory_order_relaxed)) {
    Transport::close();
    co_return Step::failed;
  }
  co_return step_;
}

// On a thread of the pool: what OpenSSL says of errors belongs to the thread.
void TlsTransport::step() noexcept {
  step_ = Step::failed;
  if (closed_meanwhile_.load(std::memory_order_relaxed)) return;
  forget_errors();
  const auto result = SSL_do_handshake(session_.get());
  const auto system_error = errno;
  if (result == 1) {
    reading_needs_output_ = false;
    step_ = Step::done;
    return;
  }
  const auto failure = SSL_get_error(session_.get(), result);
  reading_needs_output_ = failure == SSL_ERROR_WANT_WRITE;
  if (failure == SSL_ERROR_WANT_READ || failure == SSL_ERROR_WANT_WRITE) {
    step_ = Step::again;
    return;
  }
  step_failure_ =
      failure == SSL_ERROR_ZERO_RETURN || (failure == SSL_ERROR_SYSCALL && system_error == 0)
          ? std::string("the client has closed the connection")
          : failure_text(session_.get());
}

// A descriptor must not go, and its number come back as another client's, while a step uses it.
void TlsTransport::close() noexcept {
  if (!stepping_) return Transport::close();
  closed_meanwhile_.store(true, std::memory_order_relaxed);
  ::shutdown(stream_.input.native_handle(), SHUT_RDWR);
}

void TlsTransport::note_identity() {
  auto& client = stream_.client;
  if (!claimed_user_.empty() && authenticated_by_key(session_.get())) {
    client.psk_user = claimed_user_;
    client.name += fmt::format(" (user {})", proto::quoted(client.psk_user));
  } else if (const auto* const certificate = SSL_get0_peer_certificate(session_.get());
             certificate != nullptr && SSL_get_verify_result(session_.get()) == X509_V_OK) {
    client.certificate_names = names_of(certificate);
    const auto common_name =
        std::ranges::find(client.certificate_names, "CN", &CertificateName::attribute);
    if (common_name != client.certificate_names.end())
      client.name += fmt::format(" (CN={})", proto::quoted(common_name->value));
  }
}

ssize_t TlsTransport::failed(int result, Direction direction) noexcept {
  const auto system_error = errno;
  const auto failure = SSL_get_error(session_.get(), result);
  if (failure == SSL_ERROR_WANT_READ || failure == SSL_ERROR_WANT_WRITE) {
    if (direction == Direction::input)
      reading_needs_output_ = failure == SSL_ERROR_WANT_WRITE;
    else
      writing_needs_input_ = failure == SSL_ERROR_WANT_READ;
    return -EAGAIN;
  }
  if (failure == SSL_ERROR_ZERO_RETURN) return 0;
  broken_ = true;
  if (failure == SSL_ERROR_SYSCALL) return system_error != 0 ? -system_error : -ECONNRESET;
  log::connection({.client = peer()}, "{}: TLS failed: {}", peer(), take_tls_error());
  return -EPROTO;
}

ssize_t TlsTransport::read_some(std::span<const iovec> buffers) noexcept {
  if (!is_open()) return -EBADF;
  auto total = ssize_t{0};
  drained_ = false;
  for (const auto& buffer : buffers) {
    auto filled = std::size_t{0};
    while (filled < buffer.iov_len) {
      if (!end_) {
        auto count = std::size_t{0};
        forget_errors();
        const auto result =
            SSL_read_ex(session_.get(), static_cast<std::byte*>(buffer.iov_base) + filled,
                        buffer.iov_len - filled, &count);
        if (result == 1) {
          filled += count;
          total += static_cast<ssize_t>(count);
          continue;
        }
        const auto verdict = failed(result, Direction::input);
        drained_ = verdict == -EAGAIN;
        if (!drained_) end_ = verdict;
      }
      if (total > 0) return total;
      return drained_ ? -EAGAIN : *end_;
    }
  }
  reading_needs_output_ = false;
  return total;
}

// The bytes for one record, from `skip` on: one large piece as it lies there, smaller ones
// gathered.
std::span<const std::byte> TlsTransport::next_record(std::span<const iovec> buffers,
                                                     std::size_t skip) {
  while (skip >= buffers.front().iov_len) {
    skip -= buffers.front().iov_len;
    buffers = buffers.subspan(1);
    if (buffers.empty()) return {};
  }
  const auto piece = [](const iovec& buffer) {
    return std::span(static_cast<const std::byte*>(buffer.iov_base), buffer.iov_len);
  };
  const auto first = piece(buffers.front()).subspan(skip);
  if (first.size() > record_size) return first.first(record_size);
  if (!gathered_) gathered_ = std::make_unique_for_overwrite<Record>();
  auto size = std::size_t{0};
  for (const auto& buffer : buffers) {
    const auto rest = piece(buffer).subspan(std::exchange(skip, 0));
    const auto count = std::min(rest.size(), record_size - size);
    std::memcpy(gathered_->data() + size, rest.data(), count);
    size += count;
    if (size == record_size) break;
  }
  return std::span(*gathered_).first(size);
}

ssize_t TlsTransport::write_some(std::span<const iovec> buffers) noexcept {
  if (!is_open() || broken_) return -EPIPE;
  auto total = std::size_t{0};
  for (;;) {
    if (begun_.empty() && !buffers.empty()) begun_ = next_record(buffers, total);
    if (begun_.empty()) break;
    auto count = std::size_t{0};
    forget_errors();
    const auto result = SSL_write_ex(session_.get(), begun_.data(), begun_.size(), &count);
    if (result != 1) {
      const auto verdict = failed(result, Direction::output);
      if (total > 0) break;
      return verdict == 0 ? -EPIPE : verdict;
    }
    writing_needs_input_ = false;
    begun_ = {};
    total += count;
  }
  return static_cast<ssize_t>(total);
}

bool TlsTransport::has_buffered_input() const noexcept {
  return end_.has_value() || (!drained_ && SSL_has_pending(session_.get()) == 1);
}

void TlsTransport::end_output() noexcept {
  if (is_open() && established_ && !broken_) {
    forget_errors();
    SSL_shutdown(session_.get());  // the goodbye is not worth waiting for room
  }
  // Without its own descriptor for output OpenSSL must not be asked anything more: reading, too,
  // may have it write.
  if (stream_.output) {
    broken_ = true;
    end_ = end_.value_or(0);
  }
  Transport::end_output();
}

std::string TlsTransport::protection() const {
  return fmt::format(
      "{}, {}{}", SSL_get_version(session_.get()), SSL_get_cipher_name(session_.get()),
      BIO_get_ktls_send(SSL_get_wbio(session_.get())) != 0 ? ", sending by kernel TLS" : "");
}

bool TlsTransport::is_open() const noexcept {
  return stream_.input.is_open() && (!stream_.output || stream_.output->is_open());
}

}  // namespace server
