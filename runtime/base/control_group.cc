#include "runtime/base/control_group.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

// The path in the line "4:memory,hugetlb:/path" of /proc/self/cgroup; of v2, "0::/path".
std::optional<std::string> OwnGroup(const std::string& root, std::string_view controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (std::find(controllers.begin(), controllers.end(), controller) == controllers.end()) {
      continue;
    }
    // "/../x": outside of what this namespace sees.
    return parts[2] == "/" || parts[2].starts_with("/..") ? "" : parts[2];
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> ControlGroupFolders(const std::string& root, std::string_view controller) {
  std::optional<std::string> group = OwnGroup(root, controller);
  if (!group) return {};
  const std::string mount =
      StrCat(root, "/sys/fs/cgroup", controller.empty() ? "" : "/", controller);
  std::vector<std::string> folders;
  for (; !group->empty(); group->resize(std::min(group->rfind('/'), group->size() - 1))) {
    folders.push_back(mount + *group);
  }
  folders.push_back(mount);
  return folders;
}

}  // namespace trireme
