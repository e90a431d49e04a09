// Boost.Asio as this project uses it: one io_context for each thread, concrete executors, results
// as tuples.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace server {

namespace asio = boost::asio;

using Executor = asio::io_context::executor_type;
using Descriptor = asio::posix::basic_stream_descriptor<Executor>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>, Executor>;
template <typename T>
using Awaitable = asio::awaitable<T, Executor>;

// co_await operation(awaiting) gives its result; operation(as_result) a tuple whose first element
// is the error code; nothing is thrown.
inline constexpr auto awaiting = asio::use_awaitable_t<Executor>{};
inline constexpr auto as_result = asio::as_tuple_t<asio::use_awaitable_t<Executor>>{};

}  // namespace server
