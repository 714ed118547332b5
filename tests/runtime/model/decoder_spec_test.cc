#include "runtime/model/decoder_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <functional>

#include "runtime/base/strings.h"
#include "runtime/model/rope.h"
#include "tests/fakes/files.h"
#include "tests/fakes/gguf_writer.h"
#include "tests/fakes/tiny_model.h"

namespace trireme {
namespace {

using testing::HasSubstr;

// config.json of a tiny model with some fields replaced ("null" is a value; "" removes the field).
std::string Config(std::initializer_list<std::pair<const char*, const char*>> changes) {
  boost::json::object config = boost::json::parse(fakes::TinyConfigJson({})).as_object();
  for (const auto& [key, value] : changes) {
    if (*value == '\0') {
      config.erase(key);
    } else {
      config[key] = boost::json::parse(value);
    }
  }
  return boost::json::serialize(config);
}

void ExpectRefused(const absl::Status& status, const std::string& message) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_THAT(std::string(status.message()), HasSubstr(message));
}

TEST(SpecFromConfig, LlamaFieldsAreRead) {
  const auto spec = DecoderSpecFromConfigJson(Config({{"tie_word_embeddings", "true"},
                                                      {"attention_bias", "true"},
                                                      {"hidden_act", "\"gelu_pytorch_tanh\""},
                                                      {"rope_theta", "500000"}}));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->architecture, "llama");
  EXPECT_EQ(spec->num_layers, 2);
  EXPECT_EQ(spec->hidden_size, 64);
  EXPECT_EQ(spec->num_heads, 4);
  EXPECT_EQ(spec->num_kv_heads, 2);
  EXPECT_EQ(spec->head_dim, 16);
  EXPECT_EQ(spec->mlp_size, 96);
  EXPECT_EQ(spec->vocab_size, fakes::TinyModel::kVocabSize);
  EXPECT_EQ(spec->max_context, 512);
  EXPECT_FLOAT_EQ(spec->norm_eps, 1e-5f);
  EXPECT_EQ(spec->rope.theta, 500000.0);
  EXPECT_FALSE(spec->rope.interleaved);
  EXPECT_TRUE(spec->tied_embeddings);
  EXPECT_TRUE(spec->qkv_bias);
  EXPECT_TRUE(spec->out_bias);
  EXPECT_FALSE(spec->mlp_bias);
  EXPECT_EQ(spec->activation, Activation::kGeluTanh);
}

TEST(SpecFromConfig, AbsentFieldsTakeTransformersDefaults) {
  const auto spec = DecoderSpecFromConfigJson(Config({{"num_key_value_heads", ""},
                                                      {"head_dim", "null"},
                                                      {"rms_norm_eps", ""},
                                                      {"rope_theta", ""},
                                                      {"hidden_act", ""},
                                                      {"tie_word_embeddings", ""},
                                                      {"attention_bias", ""},
                                                      {"mlp_bias", ""},
                                                      {"rope_scaling", "null"}}));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->num_kv_heads, 4);
  EXPECT_EQ(spec->head_dim, 16);
  EXPECT_FLOAT_EQ(spec->norm_eps, 1e-6f);
  EXPECT_EQ(spec->rope, RopeSpec{});
  EXPECT_FALSE(spec->tied_embeddings);
}

TEST(SpecFromConfig, BothSpellingsOfRopeScalingMeanTheSame) {
  const char* old_form = R"({"type": "llama3", "factor": 8.0, "low_freq_factor": 1,
      "high_freq_factor": 4, "original_max_position_embeddings": 8192})";
  const char* new_form =
      R"({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1,
      "high_freq_factor": 4, "original_max_position_embeddings": 8192})";
  const auto a =
      DecoderSpecFromConfigJson(Config({{"rope_theta", "500000.0"}, {"rope_scaling", old_form}}));
  const auto b =
      DecoderSpecFromConfigJson(Config({{"rope_theta", ""}, {"rope_parameters", new_form}}));
  const auto both = DecoderSpecFromConfigJson(Config(
      {{"rope_theta", "500000.0"}, {"rope_scaling", old_form}, {"rope_parameters", new_form}}));
  ASSERT_TRUE(a.ok() && b.ok() && both.ok()) << a.status() << b.status() << both.status();
  EXPECT_EQ(a->rope.scaling, RopeSpec::Scaling::kLlama3);
  EXPECT_EQ(a->rope.factor, 8.0);
  EXPECT_EQ(a->rope.original_context, 8192);
  EXPECT_EQ(a->rope, b->rope);
  EXPECT_EQ(a->rope, both->rope);
  ExpectRefused(
      DecoderSpecFromConfigJson(Config({{"rope_scaling", R"({"type": "linear", "factor": 2})"},
                                        {"rope_parameters", R"({"rope_type": "default"})"}}))
          .status(),
      "rope_scaling: contradicts rope_parameters");
}

TEST(SpecFromConfig, MistralHasASlidingWindowThatMayBeNull) {
  const auto config = [](const char* window) {
    return Config({{"architectures", R"(["MistralForCausalLM"])"}, {"sliding_window", window}});
  };
  EXPECT_EQ(DecoderSpecFromConfigJson(config("4096"))->sliding_window, 4096);
  EXPECT_EQ(DecoderSpecFromConfigJson(config("null"))->sliding_window, 0);
  ExpectRefused(DecoderSpecFromConfigJson(config("")).status(), "sliding_window: missing");
  ExpectRefused(DecoderSpecFromConfigJson(config("0")).status(),
                "sliding_window: an integer from 1");
}

TEST(SpecFromConfig, WhatIsNotSupportedIsRefusedByField) {
  const struct {
    const char *field, *value, *message;
  } cases[] = {
      {"architectures", R"(["GPT2LMHeadModel"])",
       "architectures: GPT2LMHeadModel is not supported"},
      {"architectures", R"(["LlamaForCausalLM", "LlamaForCausalLM"])",
       "architectures: an array of one"},
      {"architectures", "", "architectures: an array of one"},
      {"hidden_size", "", "hidden_size: an integer from 1"},
      {"hidden_size", "0", "hidden_size: an integer from 1"},
      {"hidden_size", "-64", "hidden_size: an integer from 1"},
      {"hidden_size", "64.5", "hidden_size: an integer from 1"},
      {"hidden_size", "\"64\"", "hidden_size: an integer from 1"},
      {"hidden_size", "4294967296", "hidden_size: an integer from 1 to 1048576"},
      {"vocab_size", "18446744073709551615", "vocab_size: an integer from 1"},
      {"num_hidden_layers", "100000", "num_hidden_layers: an integer from 1"},
      {"num_key_value_heads", "3", "not a multiple"},
      {"num_key_value_heads", "8", "num_key_value_heads: an integer from 1 to 4"},
      {"num_attention_heads", "0", "num_attention_heads"},
      {"head_dim", "15", "must be even"},
      {"rms_norm_eps", "0", "rms_norm_eps: a number above 0"},
      {"rms_norm_eps", "\"x\"", "rms_norm_eps: a number above 0"},
      {"rope_theta", "-1", "rope_theta: a number above 0"},
      {"tie_word_embeddings", "1", "tie_word_embeddings: true or false"},
      {"hidden_act", "\"relu\"", "hidden_act: relu is not supported"},
      {"hidden_act", "5", "hidden_act: a string"},
      {"quantization_config", R"({"quant_method": "gptq"})", "quantization_config: not supported"},
      {"partial_rotary_factor", "0.5", "partial_rotary_factor: not supported"},
      {"rope_scaling", "5", "rope_scaling: an object"},
      {"rope_scaling", R"({"rope_type": "yarn", "factor": 4})",
       "rope_scaling.rope_type: yarn is not supported"},
      {"rope_scaling", R"({"rope_type": "dynamic", "factor": 4})", "rope_type: dynamic"},
      {"rope_scaling", R"({"rope_type": "linear"})", "rope_scaling.factor: a number above 0"},
      {"rope_scaling", R"({"rope_type": "linear", "factor": 2, "beta_fast": 3})",
       "rope_scaling.beta_fast"},
      {"rope_scaling", R"({"rope_type": "llama3", "factor": 2})", "rope_scaling.low_freq_factor"},
      {"rope_parameters", R"({"full_attention": {"rope_type": "default"}})",
       "rope_parameters.full_attention"},
  };
  for (const auto& [field, value, message] : cases) {
    const absl::Status status = DecoderSpecFromConfigJson(Config({{field, value}})).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field << " " << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << field << " " << value;
  }
  for (const char* text : {"", "[]", "{", "nul", "{\"architectures\": [\"LlamaForCausalLM\"]"}) {
    EXPECT_FALSE(DecoderSpecFromConfigJson(text).ok()) << text;
  }
}

class SpecFromGguf : public testing::Test {
 protected:
  // A file of the required keys only, changed.
  absl::StatusOr<DecoderSpec> Read(const std::function<void(fakes::GgufWriter&)>& change) {
    fakes::GgufWriter writer;
    writer.SetString("general.architecture", "llama");
    for (const auto& [key, value] :
         std::initializer_list<std::pair<const char*, uint32_t>>{{"block_count", 2},
                                                                 {"context_length", 512},
                                                                 {"embedding_length", 64},
                                                                 {"feed_forward_length", 96},
                                                                 {"attention.head_count", 4},
                                                                 {"attention.head_count_kv", 2}}) {
      writer.SetUint32(StrCat("llama.", key), value);
    }
    writer.SetFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer.AddTensor("token_embd.weight", DType::kF16, {100, 64}, std::string(12800, '\0'));
    change(writer);
    fakes::WriteFile(directory_.File("m.gguf"), writer.Serialize());
    const auto file = GgufFile::Open(directory_.File("m.gguf"));
    if (!file.ok()) return file.status();
    return DecoderSpecFromGguf(**file);
  }
  static void AddVector(fakes::GgufWriter& writer, const char* name,
                        const std::vector<float>& values) {
    std::string bytes;
    for (const float value : values) fakes::AppendBytes(&bytes, value);
    writer.AddTensor(name, DType::kF32, {static_cast<int64_t>(values.size())}, bytes);
  }
  fakes::TempDirectory directory_;
};

TEST_F(SpecFromGguf, LlamaKeysAreRead) {
  const auto spec = Read([](fakes::GgufWriter& w) {
    w.SetFloat("llama.rope.freq_base", 1e6f);
    w.SetString("llama.rope.scaling.type", "linear");
    w.SetFloat("llama.rope.scaling.factor", 4.0f);
    AddVector(w, "rope_freqs.weight", {1, 1, 1, 1, 2, 3, 4, 8});
    AddVector(w, "blk.0.attn_q.bias", {1});
    AddVector(w, "blk.0.attn_k.bias", {1});
    AddVector(w, "blk.0.attn_v.bias", {1});
  });
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->num_layers, 2);
  EXPECT_EQ(spec->head_dim, 16);
  EXPECT_EQ(spec->vocab_size, 100);  // rows of the embedding
  EXPECT_EQ(spec->rope.theta, 1e6);
  EXPECT_TRUE(spec->rope.interleaved);
  EXPECT_EQ(spec->rope.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_THAT(spec->rope.frequency_divisors, testing::ElementsAre(1, 1, 1, 1, 2, 3, 4, 8));
  EXPECT_TRUE(spec->tied_embeddings);
  EXPECT_TRUE(spec->qkv_bias);
  EXPECT_FALSE(spec->out_bias);
}

TEST_F(SpecFromGguf, OutputMatrixMeansUntied) {
  const auto spec = Read([](fakes::GgufWriter& w) {
    w.AddTensor("output.weight", DType::kF16, {100, 64}, std::string(12800, '\0'));
  });
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_FALSE(spec->tied_embeddings);
}

TEST_F(SpecFromGguf, WhatIsNotSupportedIsRefusedByKey) {
  using Writer = fakes::GgufWriter;
  const std::pair<std::function<void(Writer&)>, const char*> cases[] = {
      {[](Writer& w) {
         w.entries.erase(w.entries.begin());
         w.SetString("general.architecture", "gemma");
       },
       "general.architecture: gemma is not supported"},
      {[](Writer& w) { w.entries.erase(w.entries.begin()); }, "general.architecture"},
      {[](Writer& w) { w.entries.erase(w.entries.begin() + 1); }, "llama.block_count: an integer"},
      {[](Writer& w) { w.SetUint32("split.count", 2); }, "split.count"},
      {[](Writer& w) { w.SetUint32("llama.expert_count", 8); },
       "llama.expert_count: not supported"},
      {[](Writer& w) { w.SetString("llama.rope.scaling.type", "yarn"); },
       "llama.rope.scaling.type: yarn"},
      {[](Writer& w) { w.SetFloat("llama.logit_scale", 2.0f); },
       "llama.logit_scale: not supported"},
      {[](Writer& w) { w.SetUint32("llama.attention.value_length", 8); },
       "llama.attention.value_length"},
      {[](Writer& w) { w.SetUint32("llama.rope.dimension_count", 18); },
       "llama.rope.dimension_count"},
      {[](Writer& w) {
         AddVector(w, "rope_freqs.weight", {1, 1});
       },
       "rope_freqs.weight: F32 [8] is wanted"},
      {[](Writer& w) {
         AddVector(w, "rope_freqs.weight", {1, 1, 1, 1, 1, 1, 1, 0});
       },
       "must be above 0"},
      {[](Writer& w) { AddVector(w, "blk.0.attn_k.bias", {1}); }, "sibling biases are missing"},
      {[](Writer& w) { w.tensors.clear(), w.data.clear(); }, "token_embd.weight"},
  };
  for (const auto& [change, message] : cases) {
    const absl::Status status = Read(change).status();
    EXPECT_FALSE(status.ok()) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(Rope, Llama3KeepsFastPairsAndSlowsDownSlowOnes) {
  RopeSpec rope;
  rope.theta = 500000;
  rope.scaling = RopeSpec::Scaling::kLlama3;
  rope.factor = 8;
  const std::vector<float> scaled = InverseFrequencies(rope, 128);
  rope.scaling = RopeSpec::Scaling::kNone;
  const std::vector<float> plain = InverseFrequencies(rope, 128);
  ASSERT_EQ(plain.size(), 64u);
  EXPECT_FLOAT_EQ(plain[0], 1.0f);
  EXPECT_FLOAT_EQ(plain[32], 1.0f / std::sqrt(500000.0f));
  EXPECT_FLOAT_EQ(scaled[0], plain[0]);
  EXPECT_FLOAT_EQ(scaled[63], plain[63] / 8);
  for (size_t i = 1; i < 64; ++i) {
    EXPECT_LT(scaled[i], scaled[i - 1]);
    EXPECT_LE(scaled[i], plain[i]);
  }
}

TEST(Rope, DivisorsAndPartialRotationApply) {
  RopeSpec rope;
  rope.rotary_dim = 4;
  rope.frequency_divisors = {1, 4};
  EXPECT_THAT(InverseFrequencies(rope, 16), testing::ElementsAre(1.0f, 0.0025f));
}

}  // namespace
}  // namespace trireme
