// The head of a request for HTTP, cut where the network may cut it.
#include <boost/asio/buffer.hpp>
#include <string_view>

#include "server/watch/http_request.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  auto in = fuzz::Input(bytes, size);
  const auto cut = std::size_t{in.u16()};
  const auto rest = in.rest();
  auto parser = server::HttpParser();
  server::bound_request(parser);
  auto failure = boost::system::error_code();
  const auto first = rest.first(std::min(cut, rest.size()));
  const auto taken = parser.put(boost::asio::buffer(first.data(), first.size()), failure);
  fuzz::require(taken <= first.size(), "nothing is taken that was not there");
  const auto behind = rest.subspan(failure ? rest.size() : taken);
  if (!parser.is_done() && !behind.empty())
    parser.put(boost::asio::buffer(behind.data(), behind.size()), failure = {});
  if (failure || !parser.is_done()) return 0;
  const auto request = parser.release();
  const auto host = request[boost::beast::http::field::host];
  using enum server::HttpSubject;
  const auto subject = server::judge_request(request, true);
  const auto name = std::string_view(host.data(), host.size());
  const auto is_of_others = name.ends_with(".example") && name.find(':') == name.npos;
  fuzz::require(!is_of_others || subject == name_of_others || subject == wrong_method,
                "a name that can lead anywhere is refused");
  return 0;
}
