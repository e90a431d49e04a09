// The server's certificate and its key, the authority of client certificates, pre-shared keys. One
// immutable set of them is shared by all connections that began with it; a reload makes a new one
// for later connections.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/blocking_pool.h"
#include "engine/mutex.h"
#include "proto/negotiation.h"
#include "server/base/user_error.h"
#include "server/net/tls_config.h"

struct ssl_ctx_st;
struct ssl_st;

namespace server {

// Finds the keys of a session; outlives it.
class KeyLookup {
 public:
  // The key of the user that the client says it is; empty: unknown.
  virtual std::span<const unsigned char> find_key(std::string_view user) = 0;

 protected:
  ~KeyLookup() = default;
};

class TlsCredentials {
 public:
  // Reads the files. Throws UserError with file and key.
  explicit TlsCredentials(const TlsConfig& config);

  proto::TlsMode mode() const noexcept { return mode_; }
  // A session of a server that knows these credentials; nullptr: out of memory.
  ssl_st* make_session(KeyLookup& keys) const noexcept;
  // The key of a user of pre-shared keys; empty: unknown.
  std::span<const unsigned char> key_of(std::string_view user) const;
  // The few threads for the work on keys: it takes milliseconds, and strangers can ask for it. They
  // give way to the workers. Any thread.
  engine::BlockingPool& handshake_pool() const noexcept { return handshake_pool_; }

 private:
  struct FreeContext {
    void operator()(ssl_ctx_st* context) const noexcept;
  };

  const proto::TlsMode mode_;
  std::map<std::string, std::vector<unsigned char>, std::less<>> keys_;
  std::unique_ptr<ssl_ctx_st, FreeContext> context_;
  mutable engine::BlockingPool handshake_pool_;
};

// The credentials of this moment. Any thread.
class TlsContext {
 public:
  // Throws UserError.
  explicit TlsContext(TlsConfig config);

  // nullptr: TLS is off.
  std::shared_ptr<const TlsCredentials> credentials() const;

  // Reads the files again, for connections to come. Throws UserError, and then keeps what it has.
  void reload();
  // The same with another configuration.
  void reload(TlsConfig config);
  // Exchanges configuration and credentials with `other`, which was made for that and is known to
  // nobody else.
  void exchange(TlsContext& other) noexcept;

 private:
  mutable engine::Mutex mutex_;
  TlsConfig config_ LOOPNBD_GUARDED_BY(mutex_);
  std::shared_ptr<const TlsCredentials> credentials_ LOOPNBD_GUARDED_BY(mutex_);
};

// The oldest complaint of OpenSSL in this thread, for people; forgets all of them.
std::string take_tls_error();

// Reads lines of user:hexkey, as psktool writes them. Throws UserError with path and line.
std::map<std::string, std::vector<unsigned char>, std::less<>> read_keys(const std::string& path);

}  // namespace server
