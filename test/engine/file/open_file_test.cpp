#include "engine/file/open_file.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "engine/open_device.h"
#include "engine/shell_word.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::uint64_t mib = 1U << 20;

// The message of the refusal; empty when it is opened.
std::string refusal(const FileSpec& spec) {
  try {
    open_device(spec);
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

// Runs the command behind `words` in the refusal. Whether it ended well.
bool obey(const FileSpec& spec, const std::string& words) {
  const auto message = refusal(spec);
  CAPTURE(spec.path, message);
  const auto found = message.rfind(words);
  REQUIRE(found != std::string::npos);
  const auto command = message.substr(found + words.size());
  return ::system(("bash -c " + engine::shell_word(command)).c_str()) == 0;
}

// Lets a system call fail with `error` in this process from now on.
bool forbid(unsigned call, int error) {
  std::array<sock_filter, 4> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  sock_fprog program{filter.size(), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Whether a child of this process found all as it should be: it ends with 0, or with 77 where it
// could forbid nothing.
void check_child(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) {
    WARN("skipped: no system calls can be filtered here");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}

bool has_direct_io(const TemporaryFile& file) {
  if (open_device(FileSpec{.path = file.path()})->mode() == "direct") return true;
  WARN("skipped: no direct I/O here");
  return false;
}

}  // namespace

TEST_CASE("what cannot be served is refused with the reason and what to do") {
  const TemporaryFile file(disk_folder(), 10'000);
  const TemporaryFile empty(disk_folder(), 0);
  struct Case {
    FileSpec spec;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases{
      {{.path = file.path() + "-missing"}, {"No such file", "truncate -s"}},
      {{.path = disk_folder()}, {"is a directory"}},
      {{.path = file.path() + "/inside"}, {"Not a directory"}},
      {{.path = "/dev/null"}, {"neither a regular file nor a block device"}},
      {{.path = empty.path()}, {"is empty", "truncate -s"}},
      {{.path = file.path(), .offset = 10'000}, {"offset 10000", "10000 bytes"}},
      {{.path = file.path(), .offset = UINT64_MAX}, {"offset"}},
      {{.path = file.path(), .size = 0}, {"size 0"}},
      {{.path = file.path(), .size = 10'001}, {"size 10001", "10000 bytes", "truncate -s 10001"}},
      {{.path = file.path(), .offset = 9'999, .size = 2}, {"size 2", "offset 9999"}},
      {{.path = file.path(), .offset = 1, .size = UINT64_MAX}, {"size"}},
  };
  for (const auto& [spec, words] : cases) {
    const auto message = refusal(spec);
    CAPTURE(spec.path, message);
    CHECK_THAT(message, Catch::Contains(spec.path));
    for (const auto& word : words) CHECK_THAT(message, Catch::Contains(word));
  }
}

TEST_CASE("a remedy is a command that a shell runs, whatever the file is called") {
  const TemporaryFile place(disk_folder(), 0);
  const auto folder = place.path() + "-folder";
  REQUIRE(::mkdir(folder.c_str(), 0700) == 0);
  for (const auto* const name :
       {"disk.img", "two words", "it's", "\"quoted\"", "50%25", "what?", "#1", "-x", "a\nb",
        "$HOME", "`id`", "\\", "*", "\xc3\xbcml\xc3\xa4ut", "a;b&c|d>e", "with: it"}) {
    const auto path = folder + "/" + name + "/" + name;
    CHECK(obey({.path = path}, "folder with: "));
    CHECK(obey({.path = path}, "image with: "));
    CHECK(refusal({.path = path}).empty());
    REQUIRE(::truncate(path.c_str(), 0) == 0);
    CHECK(obey({.path = path}, "size first: "));
    const FileSpec longer{.path = path, .size = 11ULL << 30};
    CHECK(obey(longer, "larger: "));
    CHECK(refusal(longer).empty());
    if (::geteuid() == 0)
      for (const auto* const attribute : {"i", "a"}) {
        const auto set = std::string("chattr +") + attribute + " " + engine::shell_word(path);
        if (::system((set + " 2>/dev/null").c_str()) != 0) continue;  // not on each file system
        CHECK(refusal({.path = path, .read_only = true}).empty());
        CHECK(obey({.path = path}, "from it with: "));
        CHECK(refusal({.path = path}).empty());
      }
    ::unlink(path.c_str());
    ::rmdir((folder + "/" + name).c_str());
  }
  CHECK(::rmdir(folder.c_str()) == 0);
}

TEST_CASE("a remedy fits what the thing is") {
  const TemporaryFile file(disk_folder(), mib);
  CHECK_THAT(refusal({.path = "~/disk.img"}), Catch::Contains("whole path"));
  CHECK_THAT(refusal({.path = "/dev/no such disk"}), Catch::Contains("lsblk"));
  const auto link = file.path() + "-link";
  REQUIRE(::symlink("nowhere", link.c_str()) == 0);
  CHECK_THAT(refusal({.path = link}), Catch::Contains("readlink"));
  ::unlink(link.c_str());
  const auto loop = LoopDevice::make(file, 512);
  if (!loop) return;
  const auto message = refusal({.path = loop->path(), .size = 2 * mib});
  CHECK_THAT(message, Catch::Contains("make it smaller") && !Catch::Contains("truncate"));
}

TEST_CASE("a fifo is refused without waiting for its other end") {
  const TemporaryFile place(disk_folder(), 0);
  const auto path = place.path() + "-fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK_THAT(refusal({.path = path}), Catch::Contains("neither a regular file"));
  ::unlink(path.c_str());
}

TEST_CASE("files that may not be written can be served read-only") {
  if (::geteuid() == 0) {
    WARN("skipped: root may write everything");
    return;
  }
  const TemporaryFile file(disk_folder(), mib);
  REQUIRE(::chmod(file.path().c_str(), 0400) == 0);
  CHECK_THAT(refusal({.path = file.path()}), Catch::Contains("read-only"));
  CHECK(refusal({.path = file.path(), .read_only = true}).empty());
}

TEST_CASE("a regular file has its exact size and a sensible geometry") {
  const std::uint64_t size = GENERATE(as<std::uint64_t>{}, 1, 511, 4096, 1'000'001);
  const auto mode = GENERATE(DirectIo::automatic, DirectIo::off);
  const TemporaryFile file(disk_folder(), size);
  const auto device = open_device(FileSpec{.path = file.path(), .direct_io = mode});
  CHECK(device->size() == size);
  const auto& geometry = device->geometry();
  if (mode == DirectIo::off) CHECK(device->mode() == "buffered");
  if (device->mode() == "buffered") CHECK(geometry.block_size == 1);
  if (device->mode() == "direct") CHECK(geometry.block_size >= 512);
  CHECK(geometry.preferred_size >= 4096);
  CHECK(geometry.preferred_size % geometry.block_size == 0);
  CHECK_FALSE(geometry.read_only);
  CHECK(geometry.can_report_extents);
  CHECK(device->sync() == 0);
  CHECK(file.size() == size);
}

TEST_CASE("a window has the size that was asked for, or reaches to the end") {
  const TemporaryFile file(disk_folder(), mib);
  CHECK(open_device(FileSpec{.path = file.path(), .offset = 4096})->size() == mib - 4096);
  CHECK(open_device(FileSpec{.path = file.path(), .offset = 4096, .size = 1000})->size() == 1000);
  CHECK(open_device(FileSpec{.path = file.path(), .size = mib})->size() == mib);
}

TEST_CASE("an offset that direct I/O cannot have is refused, or served buffered with a report") {
  const TemporaryFile file(disk_folder(), mib);
  if (!has_direct_io(file)) return;
  FileSpec spec{.path = file.path(), .direct_io = DirectIo::on, .offset = 100};
  const auto message = refusal(spec);
  CHECK_THAT(message, Catch::Contains("multiple of") && Catch::Contains("direct_io"));
  Reports reports;
  spec.direct_io = DirectIo::automatic;
  const auto device =
      open_device(spec, {.report = [&](std::string_view line) { reports.add(line); }});
  CHECK(device->mode() == "buffered");
  REQUIRE(reports.lines().size() == 1);
  CHECK_THAT(reports.lines()[0], Catch::Contains(file.path()) && Catch::Contains("page cache"));
}

TEST_CASE("one writer excludes everybody, readers only writers, unless locks are off") {
  const TemporaryFile file(disk_folder(), mib);
  struct Case {
    bool first_reads, second_reads, second_locks;
    bool opens;
  };
  for (const auto& [first_reads, second_reads, second_locks, opens] : std::vector<Case>{
           {false, false, true, false},
           {false, true, true, false},
           {true, false, true, false},
           {true, true, true, true},
           {false, false, false, true},
       }) {
    CAPTURE(first_reads, second_reads, second_locks);
    const auto first = open_device(FileSpec{.path = file.path(), .read_only = first_reads});
    const auto message =
        refusal({.path = file.path(), .read_only = second_reads, .lock = second_locks});
    CHECK(message.empty() == opens);
    if (!opens) CHECK_THAT(message, Catch::Contains("locked") && Catch::Contains("lock = false"));
  }
  CHECK(refusal({.path = file.path()}).empty());  // gone with the device
}

TEST_CASE("windows that share no page may be served side by side, others may not") {
  const TemporaryFile file(disk_folder(), mib);
  if (!has_direct_io(file)) return;
  struct Case {
    std::uint64_t first_size, second_offset;
    DirectIo second_mode;
    bool opens;
  };
  for (const auto& [first_size, second_offset, second_mode, opens] : std::vector<Case>{
           {65536, 65536, DirectIo::on, true},
           {65536, 61440, DirectIo::on, false},
           {65536 + 4096, 65536 + 4096, DirectIo::off, true},
           {65536, 65537, DirectIo::off, true},
           {65536 + 1, 65536 + 2048, DirectIo::off, false},  // a page with direct and cached bytes
           {65536 + 1, 65536 + 4096, DirectIo::on, true},
       }) {
    CAPTURE(first_size, second_offset);
    const auto first = open_device(FileSpec{.path = file.path(), .size = first_size});
    CHECK(
        refusal(
            {.path = file.path(), .direct_io = second_mode, .offset = second_offset, .size = 8192})
            .empty() == opens);
  }
}

TEST_CASE("without asynchronous I/O a file is served through the page cache, or refused") {
  const auto error = GENERATE(ENOSYS, EPERM);
  const TemporaryFile file(disk_folder(), mib);
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (!forbid(SYS_io_setup, error)) ::_exit(77);
    Reports reports;
    const auto device = open_device(FileSpec{.path = file.path()},
                                    {.report = [&](std::string_view line) { reports.add(line); }});
    const auto lines = reports.lines();
    const bool served = device->mode() == "buffered" && device->make_queue(4) != nullptr &&
                        lines.size() == 1 && lines[0].find("io_setup") != std::string::npos;
    const auto message = refusal({.path = file.path(), .direct_io = DirectIo::on, .lock = false});
    const bool refused = message.find("io_setup") != std::string::npos &&
                         message.find("direct_io to \"auto\"") != std::string::npos;
    ::_exit(served && refused ? 0 : 1);
  }
  check_child(child);
}

TEST_CASE("zeroes and discards beyond 64 MiB are served where the file system has no fallocate") {
  constexpr std::uint64_t length = 70 * mib;
  const TemporaryFile file(memory_folder(), length + 2 * mib);
  const auto data = pattern(mib, 5);
  for (const auto offset : {std::uint64_t{0}, 40 * mib, length + mib}) file.write(offset, data);
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (!forbid(SYS_fallocate, EOPNOTSUPP)) ::_exit(77);
    const auto device = open_device(FileSpec{.path = file.path()});
    const auto queue = device->make_queue(4);
    // Neither begins nor ends where a page does.
    constexpr std::uint64_t offset = mib / 2 + 1;
    TestIo discard(Operation::discard, offset, length);
    const bool discarded = run(*queue, discard) == 0 && file.read(40 * mib, mib) == data;
    TestIo zeroes(Operation::write_zeroes, offset, length);
    const bool zeroed = run(*queue, zeroes) == 0 && file.read(40 * mib, mib) == Bytes(mib);
    auto first = data;
    std::fill(first.begin() + offset, first.end(), std::byte{0});
    ::_exit(discarded && zeroed && file.read(0, mib) == first &&
                    file.read(length + mib, mib) == data
                ? 0
                : 1);
  }
  check_child(child);
}

TEST_CASE("a file on tmpfs is served in the mode that its kernel can") {
  const TemporaryFile file(memory_folder(), mib + 1);
  const auto automatic = open_device(FileSpec{.path = file.path()})->mode();
  CHECK(refusal({.path = file.path(), .direct_io = DirectIo::on}).empty() ==
        (automatic == "direct"));
}

TEST_CASE("a read-only block device is served read-only or not at all") {
  const TemporaryFile file(disk_folder(), mib);
  const auto loop = LoopDevice::make(file, 512);
  if (!loop) return;
  const auto device = open_fd(loop->path(), O_RDONLY);
  const auto set_read_only = [&](int value) {
    return ::ioctl(device.get(), BLKROSET, &value) == 0;
  };
  REQUIRE(set_read_only(1));
  const auto locked = refusal({.path = loop->path()});
  const auto unlocked = refusal({.path = loop->path(), .lock = false});
  const auto reading = refusal({.path = loop->path(), .read_only = true});
  CHECK(obey({.path = loop->path()}, "or with: "));
  CHECK(refusal({.path = loop->path()}).empty());
  // The kernel would keep it for the next that uses this loop device.
  REQUIRE(set_read_only(0));
  CHECK_THAT(locked,
             Catch::Contains("block device is read-only") && Catch::Contains("serve it read-only"));
  CHECK_THAT(unlocked, Catch::Contains("block device is read-only"));
  CHECK(reading.empty());
}

TEST_CASE("a loop device is served with its own block size and size") {
  const std::uint32_t block_size = GENERATE(512U, 4096U);
  const TemporaryFile file(disk_folder(), mib);
  const auto loop = LoopDevice::make(file, block_size);
  if (!loop) return;
  const auto device = open_device(FileSpec{.path = loop->path(), .direct_io = DirectIo::on});
  CHECK(device->mode() == "direct");
  CHECK(device->size() == mib);
  CHECK(device->geometry().block_size == block_size);
  CHECK_FALSE(device->geometry().can_report_extents);
  CHECK_THAT(refusal({.path = loop->path()}), Catch::Contains("locked"));
}

TEST_CASE("a loop device over an image is refused to writers, and readers are warned of it") {
  const TemporaryFile file(disk_folder(), mib);
  const auto loop = LoopDevice::make(file, 512);
  if (!loop) return;
  CHECK_THAT(refusal({.path = file.path()}),
             Catch::Contains("losetup -d " + loop->path()) && Catch::Contains("lock = false"));
  CHECK(refusal({.path = file.path(), .lock = false}).empty());
  Reports reports;
  const FileSpec reading{.path = file.path(), .read_only = true};
  open_device(reading, {.report = [&](std::string_view line) { reports.add(line); }});
  REQUIRE(reports.lines().size() == 1);
  CHECK_THAT(reports.lines()[0], Catch::Contains("losetup -d " + loop->path()));
  // A loop device that cannot be written changes nothing under anybody.
  const auto device = open_fd(loop->path(), O_RDONLY);
  int read_only = 1;
  REQUIRE(::ioctl(device.get(), BLKROSET, &read_only) == 0);
  open_device(reading, {.report = [&](std::string_view line) { reports.add(line); }});
  CHECK(reports.lines().size() == 1);
  read_only = 0;
  REQUIRE(::ioctl(device.get(), BLKROSET, &read_only) == 0);
}

TEST_CASE("another node of a block device that is written is no way around its lock") {
  const TemporaryFile file(disk_folder(), mib);
  const auto loop = LoopDevice::make(file, 512);
  if (!loop) return;
  const auto other = file.path() + "-node";
  struct stat status {};
  REQUIRE(::stat(loop->path().c_str(), &status) == 0);
  if (::mknod(other.c_str(), S_IFBLK | 0600, status.st_rdev) != 0 || !open_fd(other, O_RDONLY)) {
    ::unlink(other.c_str());
    WARN("skipped: no device nodes here");
    return;
  }
  {
    const auto writer = open_device(FileSpec{.path = loop->path(), .size = 65536});
    CHECK_THAT(refusal({.path = other}), Catch::Contains("locked"));
    CHECK_THAT(refusal({.path = other, .read_only = true}), Catch::Contains("locked"));
    // Windows share the claim, through which the kernel lets them discard.
    const auto beside = open_device(FileSpec{.path = other, .offset = 65536});
    for (const auto& device : {writer, beside}) {
      const auto queue = device->make_queue(4);
      TestIo discard(engine::Operation::discard, 0, 65536);
      CHECK(run(*queue, discard) == 0);
    }
    CHECK(refusal({.path = other, .read_only = true, .lock = false}).empty());
    // For other processes the kernel keeps it.
    CHECK(::open(other.c_str(), O_RDWR | O_EXCL | O_CLOEXEC) < 0);
    CHECK(errno == EBUSY);
    // A successor by another name takes over.
    CHECK_NOTHROW(open_device(FileSpec{.path = other, .size = 65536}, {.predecessors = {writer}}));
  }
  const auto claim = open_fd(other, O_RDWR | O_EXCL);
  REQUIRE(claim);  // gone with the device
  CHECK_THAT(refusal({.path = loop->path()}), Catch::Contains("is in use"));
  CHECK(refusal({.path = loop->path(), .read_only = true}).empty());
  ::unlink(other.c_str());
}
