// The first sectors of a disk: a partition that is found lies inside it.
#include "server/export/partition.h"
#include "test/fuzz/text_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static auto disk = fuzz::TextFile();
  disk.write(bytes, size);
  constexpr std::uint64_t disk_size = 1U << 20;
  disk.resize(disk_size);
  const auto* const wanted = size % 2 == 0 ? "1" : "5";
  try {
    const auto partition = server::find_partition(disk.path(), wanted);
    fuzz::require(partition.size > 0 && partition.offset < disk_size &&
                      partition.size <= disk_size - partition.offset,
                  "a partition lies inside its disk");
  } catch (const server::PartitionError& refusal) {
    fuzz::require(*refusal.what() != '\0', "a refusal says why");
  }
  return 0;
}
