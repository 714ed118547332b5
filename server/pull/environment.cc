#include "server/pull/environment.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

namespace trireme::pull {

std::optional<std::string> Environment(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing changes the environment
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::string HomeFolder() {
  if (auto home = Environment("HOME")) return *home;
  std::vector<char> buffer(16 << 10);
  passwd entry = {}, *found = nullptr;
  const int error = getpwuid_r(getuid(), &entry, buffer.data(), buffer.size(), &found);
  return error == 0 && found != nullptr ? found->pw_dir : "";
}

}  // namespace trireme::pull
