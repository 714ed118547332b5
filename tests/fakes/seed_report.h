// For tests whose course follows from a seed: which one runs, and how to run it alone, told even
// when a violated invariant aborts the program.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace trireme::fakes {

inline int EnvironmentInt(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  int value = otherwise;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), value);
  return value;
}

// The seed that TRIREME_SIMULATION_SEED asks for; -1: all.
inline int OnlySeed() { return EnvironmentInt("TRIREME_SIMULATION_SEED", -1); }

// One thread. At most one of them lives.
class SeedReport {
 public:
  // `filter`: the gtest filter that runs this test alone.
  explicit SeedReport(const char* filter) : filter_(filter) {
    const ssize_t length = readlink("/proc/self/exe", program_, sizeof(program_) - 1);
    if (length <= 0) std::strcpy(program_, "PROGRAM");
    before_ = signal(SIGABRT, Tell);
  }
  ~SeedReport() { signal(SIGABRT, before_); }
  SeedReport(const SeedReport&) = delete;
  SeedReport& operator=(const SeedReport&) = delete;

  void Set(int seed) {
    std::snprintf(text_, sizeof(text_),
                  "reproduce with: TRIREME_SIMULATION_SEED=%d '%s' --gtest_filter='%s'\n", seed,
                  program_, filter_);
  }
  // A line for a shell.
  const char* text() const { return text_; }

 private:
  static void Tell(int) {
    [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, text_, std::strlen(text_));
  }
  static inline char text_[4500] = "";  // what a signal handler can reach

  const char* const filter_;
  char program_[4096] = {};
  void (*before_)(int) = nullptr;
};

}  // namespace trireme::fakes
