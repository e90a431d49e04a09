// A process that a block device of the kernel depends on must not need memory to give memory back:
// when the kernel writes dirty pages out to make room, and the process that does the writing asks
// for memory that only those pages could give, both wait for ever.
#pragma once

#include <string>
#include <vector>

namespace server {

// For the calling process, before it has threads: its allocations do not wait for the writing of
// dirty pages (PR_SET_IO_FLUSHER, which the loop driver does for its own threads as well), its
// memory is locked, and it is the last one to be killed for want of memory. Returns what could not
// be done and why, one line each.
std::vector<std::string> prepare_for_memory_pressure();

// Prepares a process behind swap space, in addition, before it has threads: when the kernel swaps,
// no page can be had but those it keeps in reserve, and of these real-time threads may take some
// that others may not. Throws std::runtime_error that says what is missing and how to get it.
void prepare_for_swap();

}  // namespace server
