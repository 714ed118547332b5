// Small files for tests.
#pragma once

#include <cstring>
#include <string>
#include <string_view>

namespace trireme::fakes {

// Appends the bytes of a number, as the little-endian file formats store it.
template <typename T>
void AppendBytes(std::string* out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

// Creates or replaces a file; a failure stops the test program.
void WriteFile(const std::string& path, std::string_view content);
std::string ReadFile(const std::string& path);

// A fresh folder that is removed with its content at the end of the scope.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

}  // namespace trireme::fakes
