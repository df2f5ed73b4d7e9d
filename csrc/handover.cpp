// What a measurement must know of the machine: how long a line of cache takes from one core to another. Cores that share
// a cache do it in tens of nanoseconds, others in hundreds; a virtual machine does not say which, and may change it.
#include <torch/csrc/stable/library.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace memsuite {
namespace {

// Seconds from one of two threads to the other, the mean of so many there and back.
double handover(int64_t rounds) {
  struct alignas(128) {
    std::atomic<int64_t> turn{0};
  } line;
  const auto answer = [&](int64_t mine) {
    for (int64_t turn = mine; turn < 2 * rounds; turn += 2) {
      for (int tries = 0; line.turn.load(std::memory_order_acquire) != turn; ++tries)
        if (tries > 10'000) std::this_thread::yield();  // both may have one core
      line.turn.store(turn + 1, std::memory_order_release);
    }
  };
  std::thread other(answer, 1);
  const auto begin = std::chrono::steady_clock::now();
  answer(0);
  other.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / static_cast<double>(2 * rounds);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(memsuite, m) { m.def("handover(int rounds) -> float"); }

STABLE_TORCH_LIBRARY_IMPL(memsuite, CompositeExplicitAutograd, m) { m.impl("handover", TORCH_BOX(&handover)); }

}  // namespace memsuite
