#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/doctor/fake_host.h"

namespace trireme::doctor {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class GpuTest : public testing::Test, protected FakeHost {
 protected:
  void TearDown() override {
    for (const char* name : {"FAKE_GPUS", "FAKE_LINKS", "FAKE_NVML_ERROR"}) unsetenv(name);
  }
  void AddPciGpus(int count) {
    for (int i = 0; i < count; ++i) {
      const std::string device = "/sys/bus/pci/devices/0000:0" + std::to_string(i) + ":00.0";
      Write(device + "/vendor", "0x10de\n");
      Write(device + "/class", "0x030200\n");
    }
    Write("/sys/bus/pci/devices/0000:ff:00.0/vendor", "0x10de\n");  // its sound device is no GPU
    Write("/sys/bus/pci/devices/0000:ff:00.0/class", "0x040300\n");
  }
  void InstallDriver(const char* gpus) {
    host.nvml_library = host.cuda_library = FAKE_NVIDIA;
    Write("/proc/driver/nvidia/version", "NVRM version: 550.54.15\n");
    setenv("FAKE_GPUS", gpus, 1);
  }
  void AddEfa(const std::string& state) {
    Write("/sys/class/infiniband/rdmap0s6/device/vendor", "0x1d0f\n");
    Write("/sys/class/infiniband/rdmap0s6/ports/1/state", state);
  }
};

TEST_F(GpuTest, WithoutGpus) {
  EXPECT_THAT(CheckGpus(host), ElementsAre(Is(Level::kNote, "gpu.driver", "no NVIDIA GPU")));
}

TEST_F(GpuTest, GpusWithoutADriver) {
  AddPciGpus(2);
  EXPECT_THAT(CheckGpus(host),
              ElementsAre(AllOf(Is(Level::kWarning, "gpu.driver", "2 NVIDIA GPUs, no driver"),
                                Mends("apt-get install nvidia-driver"))));
}

TEST_F(GpuTest, AContainerThatWasNotGivenTheLibraries) {
  AddPciGpus(1);
  Write("/proc/driver/nvidia/version", "NVRM version: 550.54.15\n");
  EXPECT_THAT(CheckGpus(host), ElementsAre(AllOf(Is(Level::kWarning, "gpu.driver", "not visible"),
                                                 Mends("--gpus all"))));
}

TEST_F(GpuTest, GpusWithTheirDriver) {
  AddPciGpus(2);
  InstallDriver("2");
  EXPECT_THAT(CheckGpus(host),
              ElementsAre(Is(Level::kOk, "gpu.driver", "driver 550.54.15, CUDA up to 12.8"),
                          Is(Level::kNote, "gpu.devices",
                             "NVIDIA H100 80GB HBM3, sm_90, 80 GiB, 79 GiB free"),
                          Is(Level::kNote, "gpu.devices", "H100"),
                          Is(Level::kOk, "gpu.nvlink", "18 NVLinks up on each GPU")));
  host.cuda_library = host.root + "/none";
  EXPECT_THAT(CheckGpus(host), Contains(Is(Level::kOk, "gpu.driver", "CUDA up to 12.4")));
}

TEST_F(GpuTest, OneGpuNeedsNoNvlink) {
  InstallDriver("1");
  EXPECT_THAT(CheckGpus(host), SizeIs(2));
}

TEST_F(GpuTest, AGpuThatTheDriverDoesNotSee) {
  AddPciGpus(8);
  InstallDriver("7");
  EXPECT_THAT(
      CheckGpus(host),
      Contains(AllOf(Is(Level::kWarning, "gpu.devices", "8 GPUs on the bus, 7 with the driver"),
                     Mends("dmesg"))));
  setenv("FAKE_GPUS", "0", 1);
  EXPECT_THAT(CheckGpus(host),
              Contains(Is(Level::kWarning, "gpu.devices", "the driver sees no GPU")));
}

TEST_F(GpuTest, DriverAndLibraryOfTwoVersions) {
  InstallDriver("1");
  setenv("FAKE_NVML_ERROR", "18", 1);
  EXPECT_THAT(
      CheckGpus(host),
      ElementsAre(AllOf(Is(Level::kWarning, "gpu.driver", "Driver/library version mismatch"),
                        Mends("reboot"))));
}

TEST_F(GpuTest, NvlinksThatAreDown) {
  InstallDriver("2");
  setenv("FAKE_LINKS", "17", 1);
  EXPECT_THAT(CheckGpus(host),
              Contains(AllOf(Is(Level::kWarning, "gpu.nvlink", "17 on one GPU, 18 on another"),
                             Mends("fabricmanager"))));
}

TEST_F(GpuTest, ALibraryThatIsNoNvml) {
  host.nvml_library = "libm.so.6";
  EXPECT_THAT(CheckGpus(host),
              ElementsAre(Is(Level::kWarning, "gpu.driver", "lacks functions of NVML")));
}

TEST_F(GpuTest, WithoutAFabric) {
  EXPECT_THAT(CheckFabric(host),
              ElementsAre(Is(Level::kNote, "fabric.devices", "no EFA or InfiniBand")));
}

TEST_F(GpuTest, EfaWithEverythingInstalled) {
  AddEfa("4: ACTIVE\n");
  Write("/opt/amazon/efa/lib/libfabric.so.1", "");
  Write("/opt/amazon/ofi-nccl/lib/x86_64-linux-gnu/libnccl-net.so", "");
  EXPECT_THAT(CheckFabric(host),
              ElementsAre(Is(Level::kOk, "fabric.devices", "rdmap0s6 (EFA), port 4: ACTIVE"),
                          Is(Level::kOk, "fabric.libfabric", "/opt/amazon/efa/lib"),
                          Is(Level::kOk, "fabric.aws_ofi_nccl", "libnccl-net.so")));
}

TEST_F(GpuTest, EfaWithoutItsLibraries) {
  AddEfa("1: DOWN\n");
  EXPECT_THAT(CheckFabric(host),
              ElementsAre(Is(Level::kWarning, "fabric.devices", "1: DOWN"),
                          AllOf(Is(Level::kWarning, "fabric.libfabric", "not installed"),
                                Mends("efa_installer.sh")),
                          AllOf(Is(Level::kWarning, "fabric.aws_ofi_nccl", "not installed"),
                                Mends("efa_installer.sh"))));
}

TEST_F(GpuTest, InfiniBandNeedsNoEfaLibraries) {
  Write("/sys/class/infiniband/mlx5_0/device/vendor", "0x15b3\n");
  Write("/sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n");
  EXPECT_THAT(CheckFabric(host),
              ElementsAre(Is(Level::kOk, "fabric.devices", "mlx5_0 (InfiniBand)")));
}

}  // namespace
}  // namespace trireme::doctor
