#include "server/net/tls_credentials.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>

#include "server/base/log.h"
#include "server/base/read_file.h"

namespace server {
namespace {

// TLS 1.2: forward secrecy and authenticated encryption only, and no finite fields, which cost a
// server many times what they cost a stranger. TLS 1.3: ciphers on SHA-256 first,
// since pre-shared keys are bound to that hash.
constexpr auto ciphers_tls12 = "ECDHE+AESGCM:ECDHE+CHACHA20:kECDHEPSK+CHACHA20:!kRSAPSK";
constexpr auto ciphers_tls13 =
    "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";

constexpr std::size_t handshake_threads = 2;
// Workers that are busy leave them some ten percent of a processor.
constexpr int handshake_niceness = 10;

constexpr std::size_t key_length_min = 16;  // bytes
constexpr std::size_t key_length_max = 64;

// Bytes of ciphertext that one system call may receive, instead of one record's header or body.
constexpr std::size_t receive_size = 64U << 10;

[[noreturn]] void fail(const TlsConfig& config, std::string_view key, const std::string& path) {
  const auto reason = take_tls_error();
  throw UserError(
      config.at_place(key, fmt::format("TLS: cannot use {} {}: {}", key, path, reason)));
}

int refuse_password(char*, int, int, void*) { return -1; }

// Called by OpenSSL for TLS 1.2 and, without another callback, for 1.3 as well.
unsigned find_key(SSL* session, const char* user, unsigned char* key, unsigned key_size) {
  const auto found = static_cast<KeyLookup*>(SSL_get_app_data(session))->find_key(user);
  if (found.empty() || found.size() > key_size) return 0;
  std::ranges::copy(found, key);
  return static_cast<unsigned>(found.size());
}

void configure(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // A client that closes its socket without TLS's own goodbye has ended its requests all the same;
  // those that arrived are whole. Sessions are not resumed, so that a client is always who it has
  // just proven to be.
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_ENABLE_KTLS |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_read_buffer_len(context, receive_size);
  SSL_CTX_set_default_passwd_cb(context, refuse_password);
  if (SSL_CTX_set_cipher_list(context, ciphers_tls12) != 1 ||
      SSL_CTX_set_ciphersuites(context, ciphers_tls13) != 1)
    throw UserError(fmt::format("TLS: no usable ciphers: {}", take_tls_error()));
}

void load_certificate(SSL_CTX* context, const TlsConfig& config) {
  if (SSL_CTX_use_certificate_chain_file(context, config.certificate.c_str()) != 1)
    fail(config, "certificate", config.certificate);
  const auto& key = config.key.empty() ? config.certificate : config.key;
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1)
    fail(config, "key", key);
  const auto* const certificate = SSL_CTX_get0_certificate(context);
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
    log::warn("TLS: the certificate {} has expired, so clients will refuse it: renew it and reload",
              config.certificate);
}

void load_client_authority(SSL_CTX* context, const TlsConfig& config) {
  auto* const names = SSL_load_client_CA_file(config.client_ca.c_str());
  if (names == nullptr || SSL_CTX_load_verify_file(context, config.client_ca.c_str()) != 1)
    fail(config, "client_ca", config.client_ca);
  SSL_CTX_set_client_CA_list(context, names);
  // OpenSSL takes a pre-shared key for a session, and wants those marked where it verifies clients.
  constexpr auto mark = std::string_view("loopnbd");
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(mark.data()),
                                 static_cast<unsigned>(mark.size()));
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
}

std::optional<std::vector<unsigned char>> parse_key(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  auto key = std::vector<unsigned char>{};
  for (auto index = std::size_t{0}; index < text.size(); index += 2) {
    const auto high = OPENSSL_hexchar2int(static_cast<unsigned char>(text[index]));
    const auto low = OPENSSL_hexchar2int(static_cast<unsigned char>(text[index + 1]));
    if (high < 0 || low < 0) return std::nullopt;
    key.push_back(static_cast<unsigned char>(high << 4 | low));
  }
  return key;
}

}  // namespace

std::string take_tls_error() {
  const auto code = ERR_get_error();
  const auto system_error = errno;
  ERR_clear_error();
  if (code == 0) return system_error != 0 ? std::strerror(system_error) : "unknown error";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(static_cast<int>(ERR_GET_REASON(code)));
  const auto* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("OpenSSL error {:#x}", code);
}

std::map<std::string, std::vector<unsigned char>, std::less<>> read_keys(const std::string& path) {
  auto file = std::istringstream(read_file(path));
  auto keys = std::map<std::string, std::vector<unsigned char>, std::less<>>{};
  auto line = std::string{};
  for (auto number = 1; std::getline(file, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with('#')) continue;
    const auto colon = line.rfind(':');
    auto key = colon == std::string::npos || colon == 0
                   ? std::nullopt
                   : parse_key(std::string_view(line).substr(colon + 1));
    // The line itself stays out of the message: it is a secret.
    if (!key || key->size() < key_length_min || key->size() > key_length_max)
      throw UserError(
          fmt::format("{}:{}: expected user:key with a key of {} to {} bytes in hexadecimal, as "
                      "\"psktool -u USER -p FILE\" writes it",
                      path, number, key_length_min, key_length_max));
    keys.insert_or_assign(line.substr(0, colon), std::move(*key));
  }
  if (keys.empty())
    throw UserError(
        fmt::format("{} holds no key: write one with \"psktool -u USER -p {}\"", path, path));
  return keys;
}

TlsCredentials::TlsCredentials(const TlsConfig& config)
    : mode_(config.mode),
      context_(SSL_CTX_new(TLS_server_method())),
      handshake_pool_(handshake_threads, handshake_niceness) {
  ERR_clear_error();
  if (!context_) throw UserError(fmt::format("TLS cannot start: {}", take_tls_error()));
  configure(context_.get());
  if (!config.certificate.empty()) load_certificate(context_.get(), config);
  if (!config.client_ca.empty()) load_client_authority(context_.get(), config);
  if (config.psk_file.empty()) return;
  try {
    keys_ = read_keys(config.psk_file);
  } catch (const UserError& error) {
    throw UserError(config.at_place(
        "psk_file", fmt::format("TLS: {}; psktool makes files of pre-shared keys", error.what())));
  }
  SSL_CTX_set_psk_server_callback(context_.get(), find_key);
}

void TlsCredentials::FreeContext::operator()(ssl_ctx_st* context) const noexcept {
  SSL_CTX_free(context);
}

ssl_st* TlsCredentials::make_session(KeyLookup& keys) const noexcept {
  auto* const session = SSL_new(context_.get());
  if (session != nullptr) SSL_set_app_data(session, &keys);
  return session;
}

std::span<const unsigned char> TlsCredentials::key_of(std::string_view user) const {
  const auto found = keys_.find(user);
  if (found == keys_.end()) return {};
  return found->second;
}

TlsContext::TlsContext(TlsConfig config) { reload(std::move(config)); }

std::shared_ptr<const TlsCredentials> TlsContext::credentials() const {
  const engine::MutexLock lock(mutex_);
  return credentials_;
}

void TlsContext::reload() {
  auto config = TlsConfig{};
  {
    const engine::MutexLock lock(mutex_);
    config = config_;
  }
  reload(std::move(config));
}

void TlsContext::reload(TlsConfig config) {
  // Read without the lock: handshakes go on with the old ones meanwhile.
  auto credentials =
      config.mode == proto::TlsMode::off ? nullptr : std::make_shared<const TlsCredentials>(config);
  const engine::MutexLock lock(mutex_);
  config_ = std::move(config);
  credentials_ = std::move(credentials);
}

void TlsContext::exchange(TlsContext& other) noexcept {
  const engine::MutexLock lock(mutex_);
  const engine::MutexLock lock_of_other(other.mutex_);
  std::swap(config_, other.config_);
  std::swap(credentials_, other.credentials_);
}

}  // namespace server
