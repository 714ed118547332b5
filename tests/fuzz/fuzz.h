// What the fuzz targets share. A target defines trireme::fuzz::OneInput; libFuzzer drives it in the
// `fuzz` preset, and replay_main.cc over the corpus in every other one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace trireme::fuzz {

// Any bytes; must neither fail a FUZZ_CHECK nor anything that sanitizers watch.
void OneInput(std::string_view data);

// Says what did not hold, and aborts: libFuzzer keeps the input.
[[noreturn]] void Fail(const char* condition, const char* file, int line, std::string_view detail);
#define FUZZ_CHECK(condition, detail)                                                \
  do {                                                                               \
    if (!(condition)) ::trireme::fuzz::Fail(#condition, __FILE__, __LINE__, detail); \
  } while (false)

// An error for a client or an operator: it says something, in one bounded line of UTF-8.
void CheckError(const absl::Status& status);
// The same, and the message begins with `file`.
void CheckFileError(const absl::Status& status, std::string_view file);

// A regular file without a directory entry.
class InputFile {
 public:
  explicit InputFile(std::string_view content);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  std::string path() const;

 private:
  int fd_;
};

// `count` parts of an input, as NUL bytes separate them; the last takes what is left.
std::vector<std::string_view> Parts(std::string_view data, size_t count);

}  // namespace trireme::fuzz
