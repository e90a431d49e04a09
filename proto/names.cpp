#include "proto/names.h"

namespace proto {

std::string_view name(Command command) noexcept {
  switch (command) {
    case Command::read:
      return "READ";
    case Command::write:
      return "WRITE";
    case Command::disconnect:
      return "DISC";
    case Command::flush:
      return "FLUSH";
    case Command::trim:
      return "TRIM";
    case Command::cache:
      return "CACHE";
    case Command::write_zeroes:
      return "WRITE_ZEROES";
    case Command::block_status:
      return "BLOCK_STATUS";
  }
  return "unknown";
}

std::string_view name(Option option) noexcept {
  switch (option) {
    case Option::export_name:
      return "EXPORT_NAME";
    case Option::abort:
      return "ABORT";
    case Option::list:
      return "LIST";
    case Option::start_tls:
      return "STARTTLS";
    case Option::info:
      return "INFO";
    case Option::go:
      return "GO";
    case Option::structured_reply:
      return "STRUCTURED_REPLY";
    case Option::list_meta_context:
      return "LIST_META_CONTEXT";
    case Option::set_meta_context:
      return "SET_META_CONTEXT";
    case Option::extended_headers:
      return "EXTENDED_HEADERS";
  }
  return "unknown";
}

std::string_view name(OptionReply reply) noexcept {
  switch (reply) {
    case OptionReply::ack:
      return "ACK";
    case OptionReply::server:
      return "SERVER";
    case OptionReply::info:
      return "INFO";
    case OptionReply::meta_context:
      return "META_CONTEXT";
    case OptionReply::error_unsupported:
      return "ERR_UNSUP";
    case OptionReply::error_policy:
      return "ERR_POLICY";
    case OptionReply::error_invalid:
      return "ERR_INVALID";
    case OptionReply::error_platform:
      return "ERR_PLATFORM";
    case OptionReply::error_tls_required:
      return "ERR_TLS_REQD";
    case OptionReply::error_unknown:
      return "ERR_UNKNOWN";
    case OptionReply::error_shutdown:
      return "ERR_SHUTDOWN";
    case OptionReply::error_block_size_required:
      return "ERR_BLOCK_SIZE_REQD";
    case OptionReply::error_too_big:
      return "ERR_TOO_BIG";
    case OptionReply::error_extended_header_required:
      return "ERR_EXT_HEADER_REQD";
  }
  return "unknown";
}

std::string_view name(Error error) noexcept {
  switch (error) {
    case Error::none:
      return "none";
    case Error::perm:
      return "EPERM";
    case Error::io:
      return "EIO";
    case Error::no_memory:
      return "ENOMEM";
    case Error::invalid:
      return "EINVAL";
    case Error::no_space:
      return "ENOSPC";
    case Error::overflow:
      return "EOVERFLOW";
    case Error::not_supported:
      return "ENOTSUP";
    case Error::shutdown:
      return "ESHUTDOWN";
  }
  return "unknown";
}

}  // namespace proto
