// GPUs, their driver, NVLink; EFA and what NCCL needs for it.
// Sources: the driver's README (/proc/driver/nvidia), sysfs-bus-pci, sysfs-class-infiniband,
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/efa-start-nccl.html (paths).
#include <algorithm>

#include "runtime/base/strings.h"
#include "server/doctor/doctor.h"
#include "server/doctor/nvidia.h"

namespace trireme::doctor {
namespace {

constexpr char kPci[] = "/sys/bus/pci/devices/";
constexpr char kInfiniband[] = "/sys/class/infiniband/";
constexpr char kNoCudaBackend[] = "this version computes on the CPU only";

// NVIDIA's display and 3D controllers on the PCI bus, whether or not a driver runs.
int CountPciGpus(const Host& host) {
  int count = 0;
  for (const std::string& device : host.List(kPci)) {
    const std::string folder = kPci + device;
    count += host.Read(folder + "/vendor") == "0x10de" &&
                     host.Read(folder + "/class").value_or("").starts_with("0x03")
                 ? 1
                 : 0;
  }
  return count;
}

std::string CudaText(int version) { return StrCat(version / 1000, ".", version % 1000 / 10); }

Finding WithoutNvml(int pci_gpus, bool driver, const absl::Status& nvml) {
  if (!absl::IsNotFound(nvml)) {
    return {
        Level::kWarning, "gpu.driver", std::string(nvml.message()),
        "the GPUs cannot be used: after an update, driver and library are of two versions until "
        "the driver is loaded anew",
        "dmesg | grep -i nvrm; reboot    # or: rmmod nvidia_uvm nvidia; modprobe nvidia"};
  }
  if (driver) {
    return {Level::kWarning, "gpu.driver", "the driver runs, but its libraries are not visible",
            "a container sees the GPUs only when it is started with them",
            "docker run --gpus all ...    # with nvidia-container-toolkit installed"};
  }
  if (pci_gpus > 0) {
    return {
        Level::kWarning, "gpu.driver",
        StrCat(pci_gpus, pci_gpus == 1 ? " NVIDIA GPU" : " NVIDIA GPUs", ", no driver"),
        "without a driver they cannot be used",
        "apt-get install nvidia-driver    # Debian non-free, or NVIDIA's repository; then reboot"};
  }
  return {Level::kNote, "gpu.driver", "no NVIDIA GPU", kNoCudaBackend, ""};
}

Finding Links(const NvmlFacts& facts) {
  const auto [least, most] =
      std::minmax_element(facts.gpus.begin(), facts.gpus.end(),
                          [](const Gpu& a, const Gpu& b) { return a.nvlinks < b.nvlinks; });
  if (most->nvlinks == 0) {
    return {Level::kNote, "gpu.nvlink", "the GPUs are not joined by NVLink",
            "tensor parallelism over PCIe is slower", ""};
  }
  if (least->nvlinks < most->nvlinks) {
    return {Level::kWarning, "gpu.nvlink",
            StrCat("NVLinks up: ", least->nvlinks, " on one GPU, ", most->nvlinks, " on another"),
            "the slowest GPU decides; links that are down hint at a fault",
            "nvidia-smi nvlink --status; systemctl restart nvidia-fabricmanager"};
  }
  return {Level::kOk, "gpu.nvlink", StrCat(most->nvlinks, " NVLinks up on each GPU")};
}

std::string FirstThere(const Host& host, std::initializer_list<const char*> paths) {
  for (const char* path : paths) {
    if (host.Exists(path)) return path;
  }
  return "";
}

bool IsEfa(const Host& host, const std::string& device) {
  return host.Read(StrCat(kInfiniband, device, "/device/vendor")) == "0x1d0f";  // Amazon
}

}  // namespace

Findings CheckGpus(const Host& host) {
  const int pci_gpus = CountPciGpus(host);
  const bool driver = host.Exists("/proc/driver/nvidia/version");
  const auto facts = AskNvml(host.nvml_library);
  if (!facts.ok()) return {WithoutNvml(pci_gpus, driver, facts.status())};
  Findings findings;
  const int cuda = AskCudaVersion(host.cuda_library).value_or(facts->cuda_version);
  findings.push_back({Level::kOk, "gpu.driver",
                      StrCat("driver ", facts->driver_version, ", CUDA up to ", CudaText(cuda))});
  if (facts->gpus.empty()) {
    findings.push_back({Level::kWarning, "gpu.devices", "the driver sees no GPU",
                        "it may have fallen off the bus, or the container has none",
                        "nvidia-smi; dmesg | grep -i xid"});
  }
  if (pci_gpus > static_cast<int>(facts->gpus.size())) {
    findings.push_back(
        {Level::kWarning, "gpu.devices",
         StrCat(pci_gpus, " GPUs on the bus, ", facts->gpus.size(), " with the driver"),
         "a GPU that is missing has failed, or belongs to somebody else", "dmesg | grep -i xid"});
  }
  for (const Gpu& gpu : facts->gpus) {
    findings.push_back({Level::kNote, "gpu.devices",
                        StrCat(gpu.name, ", sm_", gpu.compute_major, gpu.compute_minor, ", ",
                               SizeText(gpu.memory_bytes), ", ", SizeText(gpu.free_bytes), " free"),
                        kNoCudaBackend, ""});
  }
  if (facts->gpus.size() > 1) findings.push_back(Links(*facts));
  return findings;
}

Findings CheckFabric(const Host& host) {
  const std::vector<std::string> devices = host.List(kInfiniband);
  if (devices.empty()) {
    return {{Level::kNote, "fabric.devices", "no EFA or InfiniBand device",
             "only models that are spread over several nodes need one", ""}};
  }
  Findings findings;
  bool efa = false;
  for (const std::string& device : devices) {
    const bool is_efa = IsEfa(host, device);
    efa = efa || is_efa;
    const std::string state =
        host.Read(StrCat(kInfiniband, device, "/ports/1/state")).value_or("unknown");
    const bool up = state.find("ACTIVE") != state.npos;
    findings.push_back({up ? Level::kOk : Level::kWarning, "fabric.devices",
                        StrCat(Printable(device), is_efa ? " (EFA)" : " (InfiniBand)", ", port ",
                               Printable(state)),
                        up ? "" : "nothing can be sent through a port that is not active",
                        up ? "" : "rdma link show; ibv_devinfo"});
  }
  if (!efa) return findings;
  const std::string libfabric = FirstThere(
      host, {"/opt/amazon/efa/lib/libfabric.so.1", "/opt/amazon/efa/lib64/libfabric.so.1",
             "/usr/lib/x86_64-linux-gnu/libfabric.so.1"});
  const std::string plugin = FirstThere(
      host,
      {"/opt/amazon/ofi-nccl/lib/libnccl-net.so", "/opt/amazon/ofi-nccl/lib64/libnccl-net.so",
       "/opt/amazon/ofi-nccl/lib/x86_64-linux-gnu/libnccl-net.so",
       "/opt/aws-ofi-nccl/lib/libnccl-net.so", "/opt/aws-ofi-nccl/install/lib/libnccl-net.so"});
  constexpr char kInstaller[] =
      "curl -O https://efa-installer.amazonaws.com/aws-efa-installer-latest.tar.gz && tar xf "
      "aws-efa-installer-latest.tar.gz && cd aws-efa-installer && ./efa_installer.sh -y";
  findings.push_back(libfabric.empty() ? Finding{Level::kWarning, "fabric.libfabric",
                                                 "libfabric is not installed",
                                                 "NCCL reaches EFA through it", kInstaller}
                                       : Finding{Level::kOk, "fabric.libfabric", libfabric});
  findings.push_back(plugin.empty() ? Finding{Level::kWarning, "fabric.aws_ofi_nccl",
                                              "aws-ofi-nccl is not installed",
                                              "NCCL falls back to TCP without it; NCCL_NET=\"AWS "
                                              "Libfabric\" makes that fatal "
                                              "instead of slow",
                                              kInstaller}
                                    : Finding{Level::kOk, "fabric.aws_ofi_nccl", plugin});
  return findings;
}

}  // namespace trireme::doctor
