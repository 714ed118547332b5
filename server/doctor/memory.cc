// Memory, its limits, and huge pages. Sources: proc(5), cgroup-v2.rst, transhuge.rst of the kernel.
#include <algorithm>
#include <optional>

#include "absl/strings/str_split.h"
#include "runtime/base/strings.h"
#include "server/doctor/doctor.h"

namespace trireme::doctor {
namespace {

constexpr int64_t kLittleBytes = int64_t{2} << 30;
constexpr int64_t kMuchSwapping = 10;  // of vm.swappiness

std::optional<int64_t> MeminfoBytes(const std::string& meminfo, const char* key) {
  const auto text = Field(meminfo, key);
  const auto kib = text ? FirstNumber(*text) : std::nullopt;
  return kib ? std::optional(*kib << 10) : std::nullopt;
}

// Of memory.stat, the line that begins with `key`: the page cache, which gives way.
int64_t StatBytes(std::string_view stat, std::string_view key) {
  for (const absl::string_view line : absl::StrSplit(ToAbsl(stat), '\n')) {
    if (FromAbsl(line).starts_with(key))
      return FirstNumber(FromAbsl(line).substr(key.size())).value_or(0);
  }
  return 0;
}

struct GroupMemory {
  int64_t limit_bytes = 0, free_bytes = 0;
};

// Of our control group and those around it, the one that leaves us least.
std::optional<GroupMemory> TightestGroup(const Host& host) {
  std::optional<GroupMemory> tightest;
  for (std::string group = ControlGroup(host);;) {
    const std::string folder = "/sys/fs/cgroup" + group;
    if (const auto limit = host.ReadNumber(folder + "/memory.max")) {  // none: "max"
      const int64_t used = host.ReadNumber(folder + "/memory.current").value_or(0);
      const int64_t cache = StatBytes(host.Read(folder + "/memory.stat").value_or(""), "file ");
      const int64_t free = std::max<int64_t>(0, *limit - std::max<int64_t>(0, used - cache));
      if (!tightest || free < tightest->free_bytes) tightest = {*limit, free};
    }
    if (group.empty()) return tightest;
    group.resize(std::min(group.rfind('/'), group.size() - 1));
  }
}

// The word in brackets: "always [madvise] never".
std::string Chosen(const std::string& text) {
  const size_t begin = text.find('['), end = text.find(']');
  return begin == text.npos || end == text.npos || end < begin
             ? ""
             : text.substr(begin + 1, end - begin - 1);
}

}  // namespace

std::optional<int64_t> AvailableBytes(const Host& host) {
  auto bytes = MeminfoBytes(host.Read("/proc/meminfo").value_or(""), "MemAvailable");
  if (const auto group = TightestGroup(host); bytes && group)
    bytes = std::min(*bytes, group->free_bytes);
  return bytes;
}

Findings CheckMemory(const Host& host) {
  const std::string meminfo = host.Read("/proc/meminfo").value_or("");
  const auto total = MeminfoBytes(meminfo, "MemTotal");
  const auto available = MeminfoBytes(meminfo, "MemAvailable");
  if (!total || !available) {
    return {{Level::kWarning, "memory.available", "/proc/meminfo does not tell",
             "serve sizes the KV cache by it", "mount /proc, or give --kv-cache-memory"}};
  }
  Findings findings;
  Finding finding = {Level::kOk, "memory.available",
                     StrCat(SizeText(*available), " of ", SizeText(*total), " available")};
  if (*available < kLittleBytes) {
    finding.level = Level::kWarning;
    finding.why = "weights and KV cache of most models need more";
    finding.mend = "ps -eo pid,rss,comm --sort=-rss | head    # and stop what is not needed";
  }
  findings.push_back(finding);
  if (const auto group = TightestGroup(host); group && group->limit_bytes < *total) {
    findings.push_back(
        {Level::kNote, "memory.limit",
         StrCat("the control group allows ", SizeText(group->limit_bytes), ", of which ",
                SizeText(group->free_bytes), " are free"),
         "the kernel kills the process beyond it, and free memory of the machine does not show it",
         "give --kv-cache-memory a size that fits, or raise the limit: docker --memory, systemd "
         "MemoryMax=, limits.memory of the pod"});
  }
  const int64_t swappiness = host.ReadNumber("/proc/sys/vm/swappiness").value_or(0);
  if (MeminfoBytes(meminfo, "SwapTotal").value_or(0) > 0 && swappiness > kMuchSwapping) {
    findings.push_back({Level::kNote, "memory.swap", StrCat("swap is on, swappiness ", swappiness),
                        "weights that were swapped out make single answers slow",
                        "sysctl vm.swappiness=1"});
  }
  return findings;
}

Findings CheckHugePages(const Host& host) {
  const auto text = host.Read("/sys/kernel/mm/transparent_hugepage/enabled");
  if (!text) {
    return {{Level::kNote, "memory.huge_pages", "this kernel has no transparent huge pages",
             "reading weights costs more TLB misses", ""}};
  }
  const std::string mode = Chosen(*text);
  if (mode == "never") {
    return {{Level::kWarning, "memory.huge_pages", "transparent huge pages are off",
             "reading weights costs more TLB misses, which slows every token",
             "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"}};
  }
  return {{Level::kOk, "memory.huge_pages", StrCat("transparent huge pages: ", mode)}};
}

}  // namespace trireme::doctor
