// The control group of this process: where the kernel says what docker, systemd and Kubernetes
// allow it. Sources: cgroups(7), cgroup-v2.rst and cgroup-v1/ of the kernel.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme {

// The folders of this process's control group and of those around it, innermost first, the mount
// last; a limit holds when any of them sets it. Not all need be there: in a container the path may
// be the host's, and only the mount is ours. `controller`: "" for the unified hierarchy (v2), else
// that of v1 with this name ("memory"). Every path begins with `root`, where the file system
// begins: "" is this machine's. Empty: there is no such hierarchy. Thread-safe.
std::vector<std::string> ControlGroupFolders(const std::string& root, std::string_view controller);

}  // namespace trireme
