#include "tests/fakes/files.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/base/check.h"

namespace trireme::fakes {

void WriteFile(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  TRIREME_CHECK(file.good());
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  TRIREME_CHECK(file.good());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TempDirectory::TempDirectory() {
  path_ = (std::filesystem::temp_directory_path() / "trireme-test-XXXXXX").string();
  TRIREME_CHECK(mkdtemp(path_.data()) != nullptr);
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace trireme::fakes
