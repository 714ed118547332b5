// Special registers (PTX ISA, "Special Registers").
#include <array>

#include "tests/gpusim/vm/grid.h"

namespace trireme::gpusim {
namespace {

uint32_t LinearIndex(const std::array<int, 3>& at, const std::array<int, 3>& size) {
  return static_cast<uint32_t>((at[2] * size[1] + at[1]) * size[0] + at[0]);
}

}  // namespace

uint32_t SpecialValue(Special special, const Cta& cta, const Grid& grid, int warp, int lane) {
  const LaunchConfig& config = grid.config();
  const int thread = warp * kWarpSize + lane;
  const auto& block = config.block;
  std::array<int, 3> in_cluster, cluster_id, clusters;
  for (size_t i = 0; i < 3; ++i) {
    in_cluster[i] = cta.id()[i] % config.cluster[i];
    cluster_id[i] = cta.id()[i] / config.cluster[i];
    clusters[i] = config.grid[i] / config.cluster[i];
  }
  const auto dimension = [special](Special x) {
    return static_cast<size_t>(special) - static_cast<size_t>(x);
  };
  const auto of = [&](const std::array<int, 3>& v, Special x) {
    return static_cast<uint32_t>(v[dimension(x)]);
  };
  switch (special) {
    case Special::kTidX:
      return static_cast<uint32_t>(thread % block[0]);
    case Special::kTidY:
      return static_cast<uint32_t>(thread / block[0] % block[1]);
    case Special::kTidZ:
      return static_cast<uint32_t>(thread / (block[0] * block[1]));
    case Special::kNtidX:
    case Special::kNtidY:
    case Special::kNtidZ:
      return of(block, Special::kNtidX);
    case Special::kCtaidX:
    case Special::kCtaidY:
    case Special::kCtaidZ:
      return of(cta.id(), Special::kCtaidX);
    case Special::kNctaidX:
    case Special::kNctaidY:
    case Special::kNctaidZ:
      return of(config.grid, Special::kNctaidX);
    case Special::kLaneid:
      return static_cast<uint32_t>(lane);
    case Special::kWarpid:
      return static_cast<uint32_t>(warp);
    case Special::kNwarpid:
      return static_cast<uint32_t>((cta.num_threads() + kWarpSize - 1) / kWarpSize);
    case Special::kSmid:
      return LinearIndex(cta.id(), config.grid) % 8;
    case Special::kNsmid:
      return 8;
    case Special::kLanemaskEq:
      return 1u << lane;
    case Special::kLanemaskLt:
      return (1u << lane) - 1;
    case Special::kLanemaskLe:
      return ((1u << lane) - 1) | (1u << lane);
    case Special::kLanemaskGt:
      return ~(((1u << lane) - 1) | (1u << lane));
    case Special::kLanemaskGe:
      return ~((1u << lane) - 1);
    case Special::kClusterCtaidX:
    case Special::kClusterCtaidY:
    case Special::kClusterCtaidZ:
      return of(in_cluster, Special::kClusterCtaidX);
    case Special::kClusterNctaidX:
    case Special::kClusterNctaidY:
    case Special::kClusterNctaidZ:
      return of(config.cluster, Special::kClusterNctaidX);
    case Special::kClusterCtarank:
      return LinearIndex(in_cluster, config.cluster);
    case Special::kClusterNctarank:
      return static_cast<uint32_t>(Volume(config.cluster));
    case Special::kClusteridX:
    case Special::kClusteridY:
    case Special::kClusteridZ:
      return of(cluster_id, Special::kClusteridX);
    case Special::kNclusteridX:
    case Special::kNclusteridY:
    case Special::kNclusteridZ:
      return of(clusters, Special::kNclusteridX);
    case Special::kIsExplicitCluster:
      return Volume(config.cluster) > 1 ? 1 : 0;
    case Special::kDynamicSmemSize:
      return config.dynamic_shared_bytes;
    case Special::kTotalSmemSize:
      return config.dynamic_shared_bytes + grid.program().static_shared_bytes;
    case Special::kEnvreg1:
      return static_cast<uint32_t>(config.workspace >> 32);
    case Special::kEnvreg2:
      return static_cast<uint32_t>(config.workspace);
    default:
      return 0;
  }
}

}  // namespace trireme::gpusim
