// CPU features and how many cores are ours. Sources: proc(5), the kernel's cgroup-v2.rst.
#include <set>
#include <thread>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/base/cpus.h"
#include "runtime/base/strings.h"
#include "server/doctor/doctor.h"

namespace trireme::doctor {
namespace {

int CountProcessors(std::string_view cpuinfo) {
  int count = 0;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(cpuinfo), '\n'))
    count += FromAbsl(line).starts_with("processor") ? 1 : 0;
  return count;
}

Finding Kernels(const Host& host, const std::set<std::string>& flags) {
  std::vector<std::string> features;
  for (const char* name : {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq",
                           "avx512_vnni", "avx512_bf16", "amx_int8"}) {
    if (flags.contains(name)) features.push_back(name);
  }
  const std::string list =
      features.empty() ? "none of AVX2, AVX-512" : absl::StrJoin(features, " ");
  Finding finding = {Level::kOk, "cpu.kernels",
                     StrCat(host.kernels, " kernels; the CPU has ", list)};
  const bool has_avx512 = flags.contains("avx512f") && flags.contains("avx512bw") &&
                          flags.contains("avx512vl") && flags.contains("avx512dq") &&
                          flags.contains("avx512_vnni");
  if (host.kernels == "portable" && !flags.contains("avx2")) {
    finding.level = Level::kWarning;
    finding.why = "without AVX2 the CPU backend is many times slower";
    finding.mend =
        "use a machine whose CPU (or virtual CPU model) has AVX2 and FMA, e.g. "
        "`-cpu host` of QEMU";
  } else if (host.kernels == "portable" || (has_avx512 && host.kernels != "avx512")) {
    finding.level = Level::kNote;
    finding.why = "the CPU could run faster kernels";
    finding.mend = "unset TRIREME_CPU_ISA";
  }
  return finding;
}

Finding Cores(const Host& host, const std::string& cpuinfo) {
  const int machine = CountProcessors(cpuinfo);
  const std::string status = host.Read("/proc/self/status").value_or("");
  const std::string mask = Field(status, "Cpus_allowed_list").value_or("all");
  const auto quota = CpuQuota(host.root);
  Finding finding = {Level::kOk, "cpu.cores",
                     StrCat(machine, machine == 1 ? " CPU" : " CPUs", ", allowed: ", mask)};
  if (quota && *quota < machine) {
    finding.level = Level::kNote;
    StrAppend(&finding.seen, ", control group quota: ", *quota);
    finding.why = StrCat("at most ", *quota, " compute threads are of use; serve takes that many");
    finding.mend = "raise the quota: docker --cpus, systemd CPUQuota=, or limits.cpu of the pod";
  }
  return finding;
}

}  // namespace

Findings CheckCpu(const Host& host) {
  const std::string cpuinfo = host.Read("/proc/cpuinfo").value_or("");
  const std::vector<std::string> words =
      absl::StrSplit(Field(cpuinfo, "flags").value_or(""), ' ', absl::SkipEmpty());
  const std::set<std::string> flags(words.begin(), words.end());
  Findings findings = {Kernels(host, flags), Cores(host, cpuinfo)};
  // Of the first core: they are all set alike.
  const auto governor = host.Read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  if (governor && *governor == "powersave") {
    findings.push_back({Level::kNote, "cpu.governor", "the frequency governor is powersave",
                        "the CPU may run below its full speed",
                        "cpupower frequency-set -g performance"});
  }
  return findings;
}

}  // namespace trireme::doctor
