// The oracle of the other tests against Transformers, and the tiny models' files against each
// other.
#include <gtest/gtest.h>

#include "tests/fakes/files.h"
#include "tests/fakes/reference_decoder.h"
#include "tests/fakes/tiny_model.h"
#include "tests/runtime/model/golden_logits.h"

namespace trireme {
namespace {

class Reference : public testing::TestWithParam<const char*> {};

TEST_P(Reference, LogitsEqualTransformers) {
  const GoldenLogits golden = ReadGoldenLogits(GetParam());
  ASSERT_FALSE(golden.tokens.empty());
  fakes::TempDirectory directory;
  fakes::WriteTinyHuggingFaceModel(GoldenModel(GetParam()), directory.path());
  const auto spec = DecoderSpecFromConfigJson(fakes::ReadFile(directory.File("config.json")));
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto checkpoint = OpenSafetensors(directory.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto logits = fakes::ReferenceLogits(*spec, **checkpoint, golden.tokens);
  for (size_t i = 0; i < golden.positions.size(); ++i) {
    const auto& row = logits.at(static_cast<size_t>(golden.positions[i]));
    EXPECT_LT(RelativeError(row, golden.logits[i], row.size()), 1e-5) << golden.positions[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Reference,
                         testing::Values("f32", "f32_tied", "f32_window", "bf16", "bf16_tied"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Reference, GgufAndShardedSafetensorsAreTheSameModel) {
  for (const char* name : {"f32", "f32_tied", "bf16"}) {
    fakes::TinyModel model = GoldenModel(name);
    if (model.rope_scaling.find("linear") != std::string::npos) model.rope_scaling.clear();
    model.num_shards = 3;
    fakes::TempDirectory directory;
    fakes::WriteTinyHuggingFaceModel(model, directory.path());
    fakes::WriteTinyGguf(model, directory.File("model.gguf"));
    const auto hf_spec = DecoderSpecFromConfigJson(fakes::TinyConfigJson(model));
    const auto hf = OpenSafetensors(directory.path());
    const auto gguf = GgufFile::Open(directory.File("model.gguf"));
    ASSERT_TRUE(hf_spec.ok() && hf.ok() && gguf.ok()) << hf.status() << gguf.status();
    const auto gguf_spec = DecoderSpecFromGguf(**gguf);
    ASSERT_TRUE(gguf_spec.ok()) << gguf_spec.status();
    const TokenId tokens[] = {5, 200, 17, 17, 258, 3};
    const auto expected = fakes::ReferenceLogits(*hf_spec, **hf, tokens);
    const auto actual = fakes::ReferenceLogits(*gguf_spec, **gguf, tokens);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_LT(RelativeError(actual[i], expected[i], expected[i].size()), 1e-6) << name;
    }
  }
}

}  // namespace
}  // namespace trireme
