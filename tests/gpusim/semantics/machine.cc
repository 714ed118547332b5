#include "tests/gpusim/semantics/machine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/base/strings.h"
#include "tests/gpusim/ptx/parser.h"

namespace trireme::gpusim {
namespace {

constexpr uint64_t kScratchBytes = 4096;

std::string Module(std::string_view body, std::string_view result) {
  const std::string store = result == "d"   ? "st.global.b64 [%d3], %d20;"
                            : result == "r" ? "cvt.u64.u32 %d20, %r20; st.global.b64 [%d3], %d20;"
                            : result == "h" ? "cvt.u64.u16 %d20, %h20; st.global.b64 [%d3], %d20;"
                                            : "";
  return StrCat(R"(
.version 9.0
.target sm_90a
.address_size 64
.visible .entry test(.param .u64 in, .param .u64 out, .param .u64 scratch) {
  .reg .pred %p<9>;
  .reg .b16 %h<32>;
  .reg .b32 %r<32>;
  .reg .b64 %d<32>;
  .shared .align 16 .b8 tile[4096];
  ld.param.u64 %d0, [in];
  ld.param.u64 %d1, [out];
  ld.param.u64 %d4, [scratch];
  mov.u32 %r30, %tid.x;
  mov.u32 %r29, %ctaid.x;
  mov.u32 %r28, %ntid.x;
  mad.lo.u32 %r30, %r29, %r28, %r30;
  mul.wide.u32 %d2, %r30, 24;
  add.u64 %d2, %d0, %d2;
  mul.wide.u32 %d3, %r30, 8;
  add.u64 %d3, %d1, %d3;
  ld.global.b64 %d10, [%d2];
  ld.global.b64 %d11, [%d2+8];
  ld.global.b64 %d12, [%d2+16];
  cvt.u32.u64 %r10, %d10;
  cvt.u32.u64 %r11, %d11;
  cvt.u32.u64 %r12, %d12;
  cvt.u16.u64 %h10, %d10;
  cvt.u16.u64 %h11, %d11;
  cvt.u16.u64 %h12, %d12;
)",
                body, "\n", store, "\nret;\n}\n");
}

}  // namespace

bool Result::Found(FindingKind kind) const {
  return std::any_of(findings.begin(), findings.end(),
                     [kind](const Finding& finding) { return finding.kind == kind; });
}

std::string Result::AllFindings() const {
  std::string text;
  for (const Finding& finding : findings) text += finding.ToString() + "\n";
  return text;
}

Result RunPtx(std::string_view body, std::string_view result, const std::vector<Inputs>& inputs,
              const PtxLaunch& setup) {
  Result run;
  absl::StatusOr<ptx::Module> parsed = ptx::Parse(Module(body, result));
  run.status = parsed.status();
  if (!parsed.ok()) return run;
  const auto module = std::make_shared<const ptx::Module>(*std::move(parsed));
  auto program = Decode(module, module->functions[0], {});
  run.status = program.status();
  if (!program.ok()) return run;
  const size_t threads = static_cast<size_t>(setup.threads) * static_cast<size_t>(setup.ctas);
  DeviceMemory memory(1 << 24);
  const uint64_t in = *memory.Allocate(threads * sizeof(Inputs));
  const uint64_t out = *memory.Allocate(threads * sizeof(uint64_t));
  const uint64_t scratch = *memory.Allocate(kScratchBytes);
  std::byte* const in_bytes = memory.Find(in, threads * sizeof(Inputs));
  std::memset(in_bytes, 0, threads * sizeof(Inputs));
  std::memcpy(in_bytes, inputs.data(), inputs.size() * sizeof(Inputs));
  memory.SetDefined(in, threads * sizeof(Inputs));
  if (setup.scratch_defined) {
    std::memset(memory.Find(scratch, kScratchBytes), 0, kScratchBytes);
    memory.SetDefined(scratch, kScratchBytes);
  }
  std::vector<char> params(24);
  std::memcpy(params.data(), &in, 8);
  std::memcpy(params.data() + 8, &out, 8);
  std::memcpy(params.data() + 16, &scratch, 8);
  LaunchConfig config;
  config.grid = {setup.ctas, 1, 1};
  config.block = {setup.threads, 1, 1};
  config.cluster = {setup.cluster, 1, 1};
  config.seed = setup.seed;
  config.threads = setup.workers;
  config.all_resident = setup.all_resident;
  Report report;
  Grid grid(program->get(), config, params, &memory, &report);
  run.status = grid.Run();
  run.findings = report.Take();
  run.counters = grid.counters();
  run.out.resize(threads);
  std::memcpy(run.out.data(), memory.Find(out, threads * 8), threads * 8);
  return run;
}

uint64_t One(std::string_view body, std::string_view result, Inputs inputs) {
  const Result run = RunPtx(body, result, {inputs});
  EXPECT_TRUE(run.status.ok()) << run.status.ToString();
  for (const Finding& finding : run.findings) ADD_FAILURE() << finding.ToString();
  return run.out.empty() ? 0 : run.out[0];
}

}  // namespace trireme::gpusim
