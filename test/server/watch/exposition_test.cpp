#include "server/watch/exposition.h"

#include <catch2/catch.hpp>
#include <string>

#include "test/server/watch/example_status.h"

using Catch::Contains;

TEST_CASE("the exposition has a line for each number, with its labels") {
  const auto text = server::exposition_of(test::example_status());
  for (const auto* const line : {
           "loopnbd_build_info{version=\"1.2.3\"} 1\n",
           "process_start_time_seconds 1000\n",
           "loopnbd_listening 1\n",
           "loopnbd_connections_limit 10\n",
           "loopnbd_worker_responding{worker=\"0\"} 1\n",
           "loopnbd_turns_total{worker=\"0\"} 17\n",
           "loopnbd_buffer_waits_total{worker=\"0\"} 3\n",
           "loopnbd_export_size_bytes{export=\"disk\"} 4096\n",
           "loopnbd_sync_failed{export=\"disk\"} 1\n",
           "loopnbd_export_info{export=\"disk\",path=\"/srv/\\\"disk\\\".img\",mode=\"direct\","
           "block_size=\"512\",read_only=\"false\"} 1\n",
           "loopnbd_requests_total{export=\"disk\",command=\"read\"} 2\n",
           "loopnbd_errors_total{export=\"disk\",command=\"read\",error=\"EIO\"} 1\n",
           "loopnbd_errors_total{export=\"disk\",command=\"read\",error=\"ENOSPC\"} 0\n",
           "loopnbd_device_seconds_count{export=\"disk\",command=\"read\"} 2\n",
           "loopnbd_device_seconds_sum{export=\"disk\",command=\"read\"} 3e-06\n",
       })
    CHECK_THAT(text, Contains(line));
}

TEST_CASE("each family has its help and its type once") {
  const auto text = server::exposition_of(test::example_status());
  for (const auto* const line : {
           "# HELP loopnbd_listening 1 while new connections are accepted.\n",
           "# TYPE loopnbd_listening gauge\n",
           "# TYPE loopnbd_requests_total counter\n",
           "# TYPE loopnbd_submit_seconds histogram\n",
       }) {
    CAPTURE(line);
    const auto place = text.find(line);
    REQUIRE(place != std::string::npos);
    CHECK(text.find(line, place + 1) == std::string::npos);
  }
}

TEST_CASE("of a command that was never used there are no errors and no times") {
  const auto text = server::exposition_of(test::example_status());
  CHECK_THAT(text, Contains("loopnbd_requests_total{export=\"disk\",command=\"write\"} 0\n"));
  CHECK_THAT(text, !Contains("loopnbd_errors_total{export=\"disk\",command=\"write\""));
  CHECK_THAT(text, !Contains("loopnbd_queue_seconds_count{export=\"disk\",command=\"write\"}"));
}

TEST_CASE("a server that drains accepts nothing") {
  auto status = test::example_status();
  status.draining = true;
  CHECK_THAT(server::exposition_of(status), Contains("loopnbd_listening 0\n"));
}
