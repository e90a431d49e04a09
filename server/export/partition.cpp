#include "server/export/partition.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/file_descriptor.h"
#include "engine/shell_word.h"

namespace server {
namespace {

constexpr std::uint64_t sector_size = 512;  // bytes: libblkid's unit, whatever the disk's is

struct Found {
  Partition partition;
  std::string label;
  std::string uuid;
  bool extended = false;
};

using Probe = std::unique_ptr<struct blkid_struct_probe, decltype(&blkid_free_probe)>;

template <class... Arguments>
[[noreturn]] void refuse(const std::string& path, fmt::format_string<Arguments...> text,
                         Arguments&&... arguments) {
  throw PartitionError("cannot serve a partition of " + path + ": " +
                       fmt::format(text, std::forward<Arguments>(arguments)...));
}

// Never waits: what is no disk (a fifo) is refused.
engine::FileDescriptor open_disk(const std::string& path) {
  auto disk = engine::FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (disk.get() < 0) refuse(path, "{}", std::strerror(errno));
  struct stat status {};
  if (::fstat(disk.get(), &status) != 0) refuse(path, "{}", std::strerror(errno));
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    refuse(path, "it is neither a regular file nor a block device, and only those hold a disk");
  return disk;
}

std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

// Nothing: there is no partition table with sectors of this size (0: as libblkid finds them).
std::optional<std::vector<Found>> read_table(const engine::FileDescriptor& disk,
                                             const std::string& path, unsigned table_sector_size) {
  const auto probe = Probe(::blkid_new_probe(), &::blkid_free_probe);
  if (!probe || ::blkid_probe_set_device(probe.get(), disk.get(), 0, 0) != 0)
    refuse(path, "libblkid cannot read it: {}", std::strerror(errno));
  if (table_sector_size != 0) ::blkid_probe_set_sectorsize(probe.get(), table_sector_size);
  ::blkid_probe_enable_superblocks(probe.get(), 0);
  ::blkid_probe_enable_partitions(probe.get(), 1);
  // The list belongs to the probe, as do the texts in it.
  auto* const list = ::blkid_probe_get_partitions(probe.get());
  if (list == nullptr) return std::nullopt;
  auto found = std::vector<Found>{};
  const auto count = ::blkid_partlist_numof_partitions(list);
  for (auto index = 0; index < count; ++index) {
    auto* const entry = ::blkid_partlist_get_partition(list, index);
    const auto number = ::blkid_partition_get_partno(entry);
    const auto start = ::blkid_partition_get_start(entry);
    const auto sectors = ::blkid_partition_get_size(entry);
    constexpr auto sectors_max = static_cast<blkid_loff_t>(INT64_MAX / sector_size / 2);
    if (number < 1 || start < 0 || sectors < 1 || start > sectors_max || sectors > sectors_max)
      continue;
    found.push_back({.partition = {.number = static_cast<std::uint32_t>(number),
                                   .offset = static_cast<std::uint64_t>(start) * sector_size,
                                   .size = static_cast<std::uint64_t>(sectors) * sector_size},
                     .label = text_or_empty(::blkid_partition_get_name(entry)),
                     .uuid = text_or_empty(::blkid_partition_get_uuid(entry)),
                     .extended = ::blkid_partition_is_extended(entry) != 0});
  }
  return found;
}

// The beginning of the disk, where a GPT lies, on a disk that is larger than any.
engine::FileDescriptor stretched(const engine::FileDescriptor& disk) {
  constexpr auto huge = off_t{1} << 60;
  auto beginning = std::vector<char>(std::size_t{1} << 20);
  auto file = engine::FileDescriptor(::memfd_create("disk", MFD_CLOEXEC));
  const auto size = ::pread(disk.get(), beginning.data(), beginning.size(), 0);
  if (!file || size < 0 || ::ftruncate(file.get(), huge) != 0) return {};
  const auto copied = ::pwrite(file.get(), beginning.data(), static_cast<std::size_t>(size), 0);
  return copied == size ? std::move(file) : engine::FileDescriptor();
}

std::vector<Found> read_partitions(const engine::FileDescriptor& disk, const std::string& path) {
  auto found = std::optional<std::vector<Found>>{};
  const auto try_table = [&](const engine::FileDescriptor& where, unsigned table_sector_size) {
    if (found && !found->empty()) return;
    if (auto other = read_table(where, path, table_sector_size)) found = std::move(other);
  };
  // The image of a disk with 4096-byte sectors does not say so. Its GPT begins elsewhere, so that
  // only the empty table in front of it has been seen.
  for (const auto sector : {0U, 4096U}) try_table(disk, sector);
  // A GPT that speaks of a larger disk is none to libblkid: an image that was cut short has one.
  if (!found || found->empty())
    if (const auto larger = stretched(disk))
      for (const auto sector : {0U, 4096U}) try_table(larger, sector);
  if (!found)
    refuse(
        path,
        "it has no partition table that libblkid understands; leave the partition out to serve all "
        "of it. More may say: sfdisk --list {}",
        engine::shell_path(path));
  return *std::move(found);
}

std::string list_of(const std::vector<Found>& partitions) {
  if (partitions.empty()) return "its partition table is empty, or cut short or damaged";
  auto texts = std::vector<std::string>{};
  for (const auto& [partition, label, uuid, extended] : partitions) {
    auto& text = texts.emplace_back(
        fmt::format("{} ({} bytes at {}", partition.number, partition.size, partition.offset));
    if (!label.empty()) text += fmt::format(", label \"{}\"", label);
    if (!uuid.empty()) text += fmt::format(", UUID {}", uuid);
    text += extended ? ", extended)" : ")";
  }
  return fmt::format("it has {}", fmt::join(texts, ", "));
}

bool equal_without_case(std::string_view left, std::string_view right) {
  return std::ranges::equal(left, right, [](unsigned char a, unsigned char b) {
    return std::tolower(a) == std::tolower(b);
  });
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool matches(const Found& found, std::string_view wanted) {
  if (is_number(wanted)) return fmt::to_string(found.partition.number) == wanted;
  return found.label == wanted || equal_without_case(found.uuid, wanted);
}

}  // namespace

Partition find_partition(const std::string& path, std::string_view wanted) {
  const auto disk = open_disk(path);
  const auto partitions = read_partitions(disk, path);
  const auto is_wanted = [wanted](const Found& found) { return matches(found, wanted); };
  const auto found = std::ranges::find_if(partitions, is_wanted);
  if (found == partitions.end())
    refuse(path, "no partition has the {} \"{}\"; {}",
           is_number(wanted) ? "number" : "label or UUID", wanted, list_of(partitions));
  if (std::ranges::count_if(partitions, is_wanted) > 1)
    refuse(path, "several partitions are called \"{}\": say which one by its number; {}", wanted,
           list_of(partitions));
  if (found->extended)
    refuse(path, "partition {} is an extended one, which only holds others; {}", wanted,
           list_of(partitions));
  const auto disk_size = ::lseek(disk.get(), 0, SEEK_END);
  if (disk_size < 0) refuse(path, "cannot ask for its size: {}", std::strerror(errno));
  const auto& partition = found->partition;
  if (partition.offset + partition.size > static_cast<std::uint64_t>(disk_size))
    refuse(path,
           "partition {} ({} bytes at {}) reaches beyond its {} bytes: the image was cut short, or "
           "its partition table is that of another disk",
           wanted, partition.size, partition.offset, disk_size);
  return partition;
}

}  // namespace server
