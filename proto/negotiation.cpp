#include "proto/negotiation.h"

#include <algorithm>

#include "proto/byte_writer.h"
#include "proto/names.h"
#include "proto/options.h"
#include "proto/text.h"
#include "proto/wire.h"

namespace proto {
namespace {

constexpr std::uint16_t offered_handshake_flags =
    handshake_flag::fixed_newstyle | handshake_flag::no_zeroes;

bool carries_data(Option option) noexcept {
  switch (option) {
    case Option::export_name:
    case Option::info:
    case Option::go:
    case Option::list_meta_context:
    case Option::set_meta_context:
      return true;
    default:
      return false;
  }
}

// ABORT is not among them: its data is ignored.
bool takes_no_data(Option option) noexcept {
  return option == Option::list || option == Option::start_tls ||
         option == Option::structured_reply || option == Option::extended_headers;
}

}  // namespace

Negotiation::Negotiation(ExportDirectory& directory, TlsMode tls_mode)
    : directory_(directory), tls_mode_(tls_mode) {
  expect_piece(State::client_flags, sizeof(WireClientFlags), true);
}

std::vector<std::byte> Negotiation::greeting() {
  WireGreeting greeting;
  greeting.greeting_magic = greeting_magic;
  greeting.option_magic = option_magic;
  greeting.handshake_flags = offered_handshake_flags;
  std::vector<std::byte> bytes;
  ByteWriter(bytes).message(greeting);
  return bytes;
}

Negotiation::Progress Negotiation::receive(std::span<const std::byte> input, Output& output) {
  Progress progress;
  while (receives_pieces()) {
    const auto taken = input.subspan(progress.consumed)
                           .first(std::min(piece_missing_, input.size() - progress.consumed));
    if (piece_kept_) piece_.insert(piece_.end(), taken.begin(), taken.end());
    progress.consumed += taken.size();
    piece_missing_ -= taken.size();
    if (piece_missing_ > 0) return progress;
    take_piece(output);
  }
  if (state_ == State::tls_handshake) progress.next = Next::start_tls;
  if (state_ == State::transmission) progress.next = Next::transmit;
  if (state_ == State::closed) progress.next = Next::close;
  return progress;
}

void Negotiation::tls_started() {
  if (state_ != State::tls_handshake) return;
  negotiated_ = {};
  negotiated_.tls = true;
  selected_contexts_ = {};
  selection_export_name_.clear();
  expect_piece(State::option_header, sizeof(WireOption), true);
}

void Negotiation::shutdown() noexcept { shutting_down_ = true; }

std::size_t Negotiation::option_count() const noexcept { return option_count_; }

const Negotiated& Negotiation::result() const noexcept { return negotiated_; }

std::string_view Negotiation::reason() const noexcept { return reason_; }

bool Negotiation::receives_pieces() const noexcept {
  return state_ == State::client_flags || state_ == State::option_header ||
         state_ == State::option_data;
}

void Negotiation::expect_piece(State state, std::size_t length, bool kept) {
  state_ = state;
  piece_.clear();
  piece_missing_ = length;
  piece_kept_ = kept;
}

void Negotiation::take_piece(Output& output) {
  switch (state_) {
    case State::client_flags:
      return take_client_flags();
    case State::option_header:
      return take_option_header(output);
    default:
      return answer_option(output);
  }
}

// A client that does not know fixed newstyle is served all the same: the spec lets servers honour
// options from such clients, and the one option they can rely on is among them. TLS is the
// exception, which they must not be offered.
void Negotiation::take_client_flags() {
  const auto flags = load<WireClientFlags>(piece_).client_flags.value();
  if ((flags & ~std::uint32_t{offered_handshake_flags}) != 0) return close("unknown client flags");
  fixed_newstyle_ = (flags & handshake_flag::fixed_newstyle) != 0;
  no_zeroes_ = (flags & handshake_flag::no_zeroes) != 0;
  if (tls_mode_ == TlsMode::require && !tls_possible())
    return close("TLS is required, and the client cannot ask for it without fixed newstyle");
  expect_piece(State::option_header, sizeof(WireOption), true);
}

void Negotiation::take_option_header(Output& output) {
  const auto header = load<WireOption>(piece_);
  if (header.magic.value() != option_magic) return close("wrong option magic");
  option_ = static_cast<Option>(header.option.value());
  option_length_ = header.length.value();
  ++option_count_;
  // It cannot be answered with an error, so there is nothing to stay in sync for.
  if (option_ == Option::export_name && option_length_ > string_length_max)
    return close("the export name is longer than 4096 bytes");
  // A SET_META_CONTEXT ends the earlier selection, even if it is refused.
  if (option_ == Option::set_meta_context) selected_contexts_ = {};
  const bool kept = carries_data(option_) && option_length_ <= option_length_max;
  if (!kept) skipped_length_ += option_length_;
  if (skipped_length_ > skipped_length_max) {
    refuse(OptionReply::error_too_big, "the server does not read that much of options", output);
    return close("more option data than the server skips");
  }
  expect_piece(State::option_data, option_length_, kept);
}

std::size_t Negotiation::skippable() const noexcept {
  return state_ == State::option_data && !piece_kept_ ? piece_missing_ : 0;
}

void Negotiation::answer_option(Output& output) {
  if (option_ == Option::abort) {
    append_ack(output, option_);
    return close("aborted by the client");
  }
  if (shutting_down_) {
    refuse(OptionReply::error_shutdown, "the server is shutting down", output);
  } else if (tls_mode_ == TlsMode::require && !negotiated_.tls && option_ != Option::start_tls) {
    refuse(OptionReply::error_tls_required, "this server requires TLS", output);
  } else if (!carries_data(option_)) {
    answer_option_without_data(output);
  } else if (!piece_kept_) {
    refuse(OptionReply::error_too_big, "the data of the option is too long", output);
  } else {
    answer_option_with_data(piece_, output);
  }
  if (state_ == State::option_data) expect_piece(State::option_header, sizeof(WireOption), true);
}

void Negotiation::answer_option_with_data(Payload payload, Output& output) {
  switch (option_) {
    case Option::export_name:
      return answer_export_name(payload, output);
    case Option::info:
    case Option::go:
      return answer_info(payload, output);
    default:
      return answer_meta_context(payload, output);
  }
}

void Negotiation::answer_option_without_data(Output& output) {
  if (!takes_no_data(option_))
    return refuse(OptionReply::error_unsupported, "the server does not know this option", output);
  if (option_length_ > 0)
    return refuse(OptionReply::error_invalid, "this option takes no data", output);

  switch (option_) {
    case Option::list:
      return answer_list(output);
    case Option::start_tls:
      return answer_start_tls(output);
    case Option::structured_reply:
      if (negotiated_.header_style == HeaderStyle::extended)
        return refuse(OptionReply::error_extended_header_required,
                      "extended headers have been negotiated already", output);
      negotiated_.header_style = HeaderStyle::structured;
      return append_ack(output, option_);
    default:
      negotiated_.header_style = HeaderStyle::extended;
      return append_ack(output, option_);
  }
}

void Negotiation::answer_export_name(Payload payload, Output& output) {
  if (negotiated_.header_style == HeaderStyle::extended)
    return close("EXPORT_NAME after extended headers were negotiated");
  const auto asked_name = parse_export_name(payload);
  if (!asked_name) return close("the export name is not a valid string");
  const auto found = find_export(*asked_name, output);
  if (!found) return;
  enter_transmission(*found, *asked_name);
  append_export_name_answer(output, found->size, negotiated_.export_description.transmission_flags,
                            !no_zeroes_);
}

void Negotiation::answer_info(Payload payload, Output& output) {
  const auto asked = parse_info_option(payload);
  if (!asked) return refuse(OptionReply::error_invalid, "malformed data", output);
  const auto found = find_export(asked->export_name, output);
  if (!found) return;

  append_export_information(output, option_, found->size, told_transmission_flags(*found));
  if (asked->name_requested)
    append_text_information(output, option_, Information::name, found->name);
  if (asked->description_requested && !found->description.empty())
    append_text_information(output, option_, Information::description, found->description);
  if (asked->block_size_requested)
    append_block_size_information(output, option_, found->block_size_minimum,
                                  found->block_size_preferred, found->payload_length_max);
  append_ack(output, option_);
  if (option_ == Option::go) enter_transmission(*found, asked->export_name);
}

void Negotiation::answer_meta_context(Payload payload, Output& output) {
  if (negotiated_.header_style == HeaderStyle::simple)
    return refuse(OptionReply::error_invalid, "structured replies must be negotiated first",
                  output);
  const auto asked = parse_meta_context_option(payload);
  if (!asked) return refuse(OptionReply::error_invalid, "malformed data", output);
  const auto found = find_export(asked->export_name, output);
  if (!found) return;

  const auto& queries = asked->queries;
  const auto any_query = [&queries](auto matches) {
    return std::any_of(queries.begin(), queries.end(), matches);
  };
  if (option_ == Option::set_meta_context) selection_export_name_ = asked->export_name;
  for (const auto& context : found->contexts) {
    if (option_ == Option::set_meta_context) {
      if (any_query([&](auto query) { return context.is_selected_by(query); }) &&
          selected_contexts_.add(context.id))
        append_meta_context(output, option_, context.id, context.name);
    } else if (queries.empty() ||
               any_query([&](auto query) { return context.is_listed_by(query); })) {
      append_meta_context(output, option_, 0, context.name);  // the spec wants zero
    }
  }
  append_ack(output, option_);
}

void Negotiation::answer_list(Output& output) {
  for (const auto& description : directory_.list()) {
    if (!tls_missing(description)) append_server(output, description.name, description.description);
  }
  append_ack(output, option_);
}

void Negotiation::answer_start_tls(Output& output) {
  if (negotiated_.tls) return refuse(OptionReply::error_invalid, "TLS is in use already", output);
  if (!tls_possible())
    return refuse(OptionReply::error_unsupported, "TLS is not available here", output);
  append_ack(output, option_);
  state_ = State::tls_handshake;
}

std::optional<ExportDescription> Negotiation::find_export(std::string_view asked_name,
                                                          Output& output) {
  auto found = directory_.find(asked_name);
  if (!found) {
    auto text = "export " + quoted(asked_name) + " not found: see what the server lists";
    if (asked_name.empty()) text = "there is no default export: ask for one by its name";
    refuse(OptionReply::error_unknown, text, output);
    return std::nullopt;
  }
  if (tls_missing(*found)) {
    // TLS_REQD may answer only INFO and GO, and only where TLS can be had.
    const bool may_ask = tls_possible() && (option_ == Option::info || option_ == Option::go);
    refuse(may_ask ? OptionReply::error_tls_required : OptionReply::error_policy,
           "export " + quoted(asked_name) + " requires TLS", output);
    return std::nullopt;
  }
  if (option_ == Option::go || option_ == Option::export_name) return directory_.choose(*found);
  return found;
}

void Negotiation::enter_transmission(const ExportDescription& found, std::string_view asked_name) {
  negotiated_.export_description = found;
  negotiated_.export_description.transmission_flags = told_transmission_flags(found);
  const auto holds =
      asked_name == selection_export_name_ && negotiated_.header_style != HeaderStyle::simple;
  negotiated_.contexts = holds ? selected_contexts_ : ContextIds{};
  state_ = State::transmission;
}

void Negotiation::refuse(OptionReply error, std::string_view text, Output& output) {
  if (option_ == Option::export_name) return close(text);
  append_error(output, option_, error, text);
  reason_ = std::string(name(option_)) + ": " + std::string(text);
}

void Negotiation::close(std::string_view reason) {
  reason_ = reason;
  state_ = State::closed;
}

bool Negotiation::tls_possible() const noexcept {
  return tls_mode_ != TlsMode::off && fixed_newstyle_;
}

bool Negotiation::tls_missing(const ExportDescription& description) const noexcept {
  return description.tls_required && !negotiated_.tls;
}

std::uint16_t Negotiation::told_transmission_flags(
    const ExportDescription& description) const noexcept {
  unsigned told = description.transmission_flags | transmission_flag::has_flags;
  told &= ~unsigned{transmission_flag::send_df | transmission_flag::block_status_payload};
  if (negotiated_.header_style != HeaderStyle::simple) told |= transmission_flag::send_df;
  if (negotiated_.header_style == HeaderStyle::extended)
    told |= transmission_flag::block_status_payload;
  return static_cast<std::uint16_t>(told);
}

}  // namespace proto
