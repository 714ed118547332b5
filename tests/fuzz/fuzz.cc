#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "runtime/base/strings.h"
#include "runtime/text/utf8.h"

namespace trireme::fuzz {

void Fail(const char* condition, const char* file, int line, std::string_view detail) {
  std::fprintf(stderr, "%s:%d: %s does not hold: %s\n", file, line, condition,
               Printable(detail, 1000).c_str());
  std::abort();
}

void CheckError(const absl::Status& status) {
  constexpr size_t kMaxMessageBytes = 4096;
  const std::string_view message = FromAbsl(status.message());
  FUZZ_CHECK(!status.ok() && !message.empty(), message);
  FUZZ_CHECK(message.size() <= kMaxMessageBytes, message);
  FUZZ_CHECK(IsValidUtf8(message), message);
  FUZZ_CHECK(std::none_of(message.begin(), message.end(),
                          [](unsigned char c) { return c < 0x20 && c != '\n' && c != '\t'; }),
             message);
  FUZZ_CHECK(!absl::IsInternal(status) && !absl::IsUnknown(status), message);
}

void CheckFileError(const absl::Status& status, std::string_view file) {
  CheckError(status);
  FUZZ_CHECK(FromAbsl(status.message()).starts_with(file), FromAbsl(status.message()));
}

InputFile::InputFile(std::string_view content) : fd_(memfd_create("input", MFD_CLOEXEC)) {
  FUZZ_CHECK(fd_ >= 0, "memfd_create");
  FUZZ_CHECK(write(fd_, content.data(), content.size()) == static_cast<ssize_t>(content.size()),
             "write");
}
InputFile::~InputFile() { close(fd_); }
std::string InputFile::path() const { return StrCat("/proc/self/fd/", fd_); }

std::vector<std::string_view> Parts(std::string_view data, size_t count) {
  std::vector<std::string_view> parts(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t end = i + 1 < count ? std::min(data.find('\0'), data.size()) : data.size();
    parts[i] = data.substr(0, end);
    data.remove_prefix(std::min(end + 1, data.size()));
  }
  return parts;
}

}  // namespace trireme::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trireme::fuzz::OneInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
