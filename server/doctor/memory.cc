// Memory, its limits, and huge pages. Sources: proc(5), cgroup-v2.rst, transhuge.rst of the kernel.
#include "runtime/base/memory.h"
#include "runtime/base/strings.h"
#include "server/doctor/doctor.h"

namespace trireme::doctor {
namespace {

constexpr int64_t kLittleBytes = int64_t{2} << 30;
constexpr int64_t kMuchSwapping = 10;  // of vm.swappiness

// The word in brackets: "always [madvise] never".
std::string Chosen(const std::string& text) {
  const size_t begin = text.find('['), end = text.find(']');
  return begin == text.npos || end == text.npos || end < begin
             ? ""
             : text.substr(begin + 1, end - begin - 1);
}

}  // namespace

Findings CheckMemory(const Host& host) {
  const auto total = MeminfoBytes(host.root, "MemTotal");
  const auto available = MeminfoBytes(host.root, "MemAvailable");
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
  if (const auto limit = TightestMemoryLimit(host.root); limit && limit->limit_bytes < *total) {
    findings.push_back(
        {Level::kNote, "memory.limit",
         StrCat("the control group allows ", SizeText(limit->limit_bytes), ", of which ",
                SizeText(limit->free_bytes), " are free"),
         "the kernel kills the process beyond it, and free memory of the machine does not show it",
         "give --kv-cache-memory a size that fits, or raise the limit: docker --memory, systemd "
         "MemoryMax=, limits.memory of the pod"});
  }
  const int64_t swappiness = host.ReadNumber("/proc/sys/vm/swappiness").value_or(0);
  if (MeminfoBytes(host.root, "SwapTotal").value_or(0) > 0 && swappiness > kMuchSwapping) {
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
