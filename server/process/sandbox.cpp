#include "server/process/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <stdexcept>
#include <vector>

#include "engine/file_descriptor.h"
#include "server/base/log.h"

namespace server {
namespace {

// linux/landlock.h of the kernel that this was built on may be older than the one it runs on.
struct RulesetAttributes {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;
};
constexpr auto access_net_connect_tcp = std::uint64_t{1} << 1;
constexpr auto abi_with_network = 4;

constexpr std::uint64_t running_programs = LANDLOCK_ACCESS_FS_EXECUTE;
constexpr std::uint64_t changing_folders =
    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
// A Unix socket is made when it is listened on, and its file removed at the end.
constexpr std::uint64_t making_sockets =
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;

// For administrators, debuggers and those who start programs. The leak checker of the address
// sanitizer is a debugger.
constexpr auto forbidden_calls = std::to_array<int>({
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(quotactl),
    SCMP_SYS(personality),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(syslog),
#ifndef __SANITIZE_ADDRESS__
    SCMP_SYS(ptrace),
#endif
});

// unshare() is forbidden, and clone() could do the same: the root of a user namespace has much of
// the kernel to try.
constexpr auto forbidden_clone_flags =
    std::to_array<unsigned>({CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC,
                             CLONE_NEWUTS, CLONE_NEWCGROUP});

[[noreturn]] void fail(std::string_view what, int error) {
  throw std::runtime_error(fmt::format(
      "sandbox: {}: {}; sandbox = false (--no-sandbox) does without", what, std::strerror(error)));
}

std::set<std::string> socket_folders(const Config& config) {
  auto folders = std::set<std::string>{};
  const auto insert = [&](const std::string& path) {
    const auto slash = path.rfind('/');
    folders.insert(slash == std::string::npos ? "." : path.substr(0, slash + 1));
  };
  for (const auto& address : config.listen)
    if (address.starts_with("unix:")) insert(address.substr(5));
  if (config.http_listen.starts_with("unix:")) insert(config.http_listen.substr(5));
  if (!config.control_socket.empty()) insert(config.control_socket);
  return folders;
}

void allow_sockets(int ruleset, const std::string& folder) {
  const auto parent =
      engine::FileDescriptor(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return;  // whoever listens there says so better
  const auto rule =
      landlock_path_beneath_attr{.allowed_access = making_sockets, .parent_fd = parent.get()};
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
    fail(fmt::format("cannot allow sockets in {}", folder), errno);
}

std::string restrict_files(const Config& config, const engine::SandboxNeeds& needs) {
  const auto abi = static_cast<int>(
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
  if (abi < 1) return "no Landlock in this kernel";
  const auto with_network = abi >= abi_with_network && !needs.outgoing_tcp;
  const auto attributes =
      RulesetAttributes{.handled_access_fs = running_programs | changing_folders,
                        .handled_access_net = access_net_connect_tcp};
  const auto size = with_network ? sizeof attributes : sizeof attributes.handled_access_fs;
  const auto ruleset = engine::FileDescriptor(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  if (!ruleset) fail("cannot make Landlock rules", errno);
  for (const auto& folder : socket_folders(config)) allow_sockets(ruleset.get(), folder);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("cannot give up new privileges", errno);
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0)
    fail("cannot apply Landlock rules", errno);
  return fmt::format("no programs, no new files{} (Landlock ABI {})",
                     with_network ? ", no TCP connections of its own" : "", abi);
}

// One call of glibc's changes all threads.
void become(const std::string& user) {
  const auto* const account = ::getpwnam(user.c_str());
  if (account == nullptr)
    throw std::runtime_error(fmt::format("there is no user \"{}\" (user, --user)", user));
  if (::geteuid() == account->pw_uid) return;
  const auto group = account->pw_gid;
  const auto uid = account->pw_uid;
  if (::initgroups(account->pw_name, group) != 0 || ::setresgid(group, group, group) != 0 ||
      ::setresuid(uid, uid, uid) != 0)
    throw std::runtime_error(
        fmt::format("cannot become user \"{}\": {}; start as root, or leave user (--user) out",
                    user, std::strerror(errno)));
  // Other processes of this user reach neither memory nor descriptors: they hold what only the user
  // before could open. A reload reads of /proc/self only files that are for everybody.
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) fail("cannot become undumpable", errno);
}

std::size_t forbid_calls(const engine::SandboxNeeds& needs) {
  auto calls = std::vector<int>(forbidden_calls.begin(), forbidden_calls.end());
  if (!needs.io_uring) calls.push_back(SCMP_SYS(io_uring_setup));
  const auto filter = std::unique_ptr<void, decltype(&seccomp_release)>(
      seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  if (!filter) fail("cannot make a filter of system calls", ENOMEM);
  const auto check = [](int error) {
    if (error != 0) fail("cannot filter a system call", -error);
  };
  for (const auto call : calls)
    check(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0));
  for (const auto flag : forbidden_clone_flags)
    check(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                           SCMP_A0(SCMP_CMP_MASKED_EQ, flag, flag)));
  // Its flags lie in memory, where no filter sees them; glibc takes clone() then.
  check(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0));
  seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (const auto error = seccomp_load(filter.get()); error != 0)
    fail("cannot filter system calls", error == -ECANCELED ? errno : -error);
  return calls.size();
}

}  // namespace

Sandbox::Sandbox(const Config& config, const engine::SandboxNeeds& needs)
    : enabled_(config.sandbox), user_(config.user), needs_(needs) {
  if (enabled_) files_ = restrict_files(config, needs_);
}

void Sandbox::close() {
  if (!user_.empty()) become(user_);
  const auto user = user_.empty() ? fmt::format("user {}", ::geteuid()) : user_;
  if (!enabled_) return log::info("sandbox: off; running as {}", user);
  const auto count = forbid_calls(needs_);
  log::info("sandbox: running as {}; {}; {} system calls forbidden", user, files_, count);
}

}  // namespace server
