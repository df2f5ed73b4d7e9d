// Measures how long a cache line takes from one core to another, which a benchmark of threads must know. Cores that
// share a cache take tens of nanoseconds and others hundreds. A virtual machine does not say which cores it uses, and
// may change them. memsuite/ops/build/probe.py builds this file on demand; it is not part of the ops.
#include <torch/csrc/stable/library.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace memsuite {
namespace {

// The seconds that a cache line takes from one thread to the other, as the mean over `rounds` rounds.
double handover(int64_t rounds) {
  struct alignas(128) {
    std::atomic<int64_t> turn{0};
  } line;
  const auto answer = [&](int64_t mine) {
    for (int64_t turn = mine; turn < 2 * rounds; turn += 2) {
      for (int tries = 0; line.turn.load(std::memory_order_acquire) != turn; ++tries)
        if (tries > 10'000) std::this_thread::yield();  // the threads may share one core
      line.turn.store(turn + 1, std::memory_order_release);
    }
  };
  std::thread other(answer, 1);
  const auto begin = std::chrono::steady_clock::now();
  answer(0);
  other.join();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  return taken.count() / static_cast<double>(2 * rounds);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) { m.def("handover(int rounds) -> float"); }

STABLE_TORCH_LIBRARY_IMPL(memsuite, CompositeExplicitAutograd, m) { m.impl("handover", TORCH_BOX(&handover)); }

}  // namespace memsuite
