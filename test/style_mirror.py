"""The rule that each source has a test at the mirrored place, or a named one that covers it.

Part of style_test.py, which calls check() with the paths of the repository.
"""

import re

# Sources without a test of their own, and the test that covers them: most of them talk
# to the kernel or to real clients, so that a test of the whole program shows more.
COVERED_BY = {
    "engine/file/block_device_use.cpp": "test/engine/file/open_file_test.cpp",
    "engine/file/loop_devices.cpp": "test/engine/file/open_file_test.cpp",
    "server/attach/attach.cpp": "test/vm/attach_test.py",
    "server/attach/attached_device.cpp": "test/vm/attach_recovery_test.py",
    "server/attach/attachment_loop.cpp": "test/vm/attach_test.py",
    "server/attach/file_attachment.cpp": "test/vm/attach_recovery_test.py",
    "server/attach/nbd_netlink.cpp": "test/vm/attach_test.py",
    "server/attach/remote_attachment.cpp": "test/vm/attach_remote_test.py",
    "server/base/asio.cpp": "test/server/base/blocking_task_test.cpp",  # Boost's code alone
    "server/base/json.cpp": "test/server/control/control_request_test.cpp",  # Boost's code alone
    "server/base/log.cpp": "test/system/log_test.py",
    "server/base/log_names.cpp": "test/system/log_test.py",
    "server/base/places.cpp": "test/server/config/read_config_test.cpp",
    "server/base/service_manager.cpp": "test/system/notify_test.py",
    "server/command_line.cpp": "test/system/command_line_test.py",
    "server/config/toml.cpp": "test/server/config/read_config_test.cpp",
    "server/control/client/ctl.cpp": "test/system/control_test.py",
    "server/control/client/ctl_client.cpp": "test/system/control_test.py",
    "server/control/client/ctl_top.cpp": "test/system/control_test.py",
    "server/control/control_command.cpp": "test/server/control/control_commands_test.cpp",
    "server/control/control_exports.cpp": "test/server/control/control_commands_test.cpp",
    "server/control/control_status.cpp": "test/server/control/control_commands_test.cpp",
    "server/export/export.cpp": "test/server/serving/worker_test.cpp",
    "server/live/device_change.cpp": "test/server/live/resize_test.cpp",
    "server/live/device_exchange.cpp": "test/system/live_test.py",
    "server/live/live_exports.cpp": "test/system/live_test.py",
    "server/live/live_server.cpp": "test/system/reload_test.py",
    "server/net/tls_config.cpp": "test/server/config/validate_test.cpp",
    "server/net/socket_options.cpp": "test/system/listen_test.py",
    "server/net/transport.cpp": "test/server/serving/connection_test.cpp",
    "server/process/daemon.cpp": "test/vm/attach_test.py",
    "server/process/memory_pressure.cpp": "test/vm/attach_test.py",
    "server/process/wake_latency.cpp": "test/system/wake_latency_test.py",
    "server/reload.cpp": "test/system/reload_test.py",
    "server/server.cpp": "test/system/shutdown_test.py",
    "server/serving/connection_host.cpp": "test/server/serving/worker_test.cpp",
    "server/serving/request_rules.cpp": "test/server/serving/connection_test.cpp",
    "server/watch/http.cpp": "test/system/http_test.py",
    "server/watch/notify.cpp": "test/system/notify_test.py",
}


def check(paths, covered_by=None):
    covered_by = COVERED_BY if covered_by is None else covered_by
    needed = set()
    for path in paths:
        match = re.fullmatch(r"((?:proto|engine|server)(?:/\w+)*)/(\w+)\.cpp", path)
        if not match or path == "server/main.cpp":
            continue
        test = f"test/{match.group(1)}/{match.group(2)}_test.cpp"
        if test in paths:
            continue
        needed.add(path)
        if path not in covered_by:
            yield path, f"there is no {test}, and style_mirror.py names no other test"
        elif covered_by[path] not in paths:
            yield path, f"style_mirror.py names {covered_by[path]}, which is not there"
    for path in sorted(covered_by.keys() - needed):
        yield path, "style_mirror.py names a test for it that is no longer needed"


def failures_of_self_test():
    tested, untested, room = "proto/b.cpp", "proto/a.cpp", "server/net/c.cpp"
    paths = [untested, tested, "test/proto/b_test.cpp", room, "server/main.cpp"]
    for covered_by, expected in (
        ({}, [untested, room]),
        ({room: "test/proto/b_test.cpp"}, [untested]),
        ({room: "test/gone.py"}, [untested, room]),
        ({tested: "test/proto/b_test.cpp"}, [untested, room, tested]),
    ):
        found = [path for path, _ in check(paths, covered_by)]
        if found != expected:
            yield f"tests_exist: finds {found}, not {expected}"
