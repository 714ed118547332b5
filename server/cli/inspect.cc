// trireme inspect: whether a model is sound, what it needs, and how fast it can be at most, without
// loading it.
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>

#include "runtime/base/cpus.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/model/decoder.h"
#include "runtime/model/model_files.h"
#include "runtime/model/plan.h"
#include "server/cli/bandwidth.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/node/model_text.h"

namespace trireme {
namespace {

namespace json = boost::json;

constexpr absl::Duration kMeasuringTime = absl::Seconds(1);

void AddModel(const ModelFiles& files, const std::string& type, json::object* facts) {
  const DecoderSpec& spec = files.spec;
  (*facts)["architecture"] = spec.architecture;
  (*facts)["parameters"] = CountParameters(spec);
  (*facts)["weights"] = type;
  (*facts)["weight_bytes"] = files.checkpoint->size_bytes();
  (*facts)["tensors"] = files.checkpoint->Names().size();
  (*facts)["layers"] = spec.num_layers;
  (*facts)["hidden_size"] = spec.hidden_size;
  (*facts)["heads"] = spec.num_heads;
  (*facts)["kv_heads"] = spec.num_kv_heads;
  (*facts)["head_dim"] = spec.head_dim;
  (*facts)["vocab_size"] = spec.vocab_size;
}

const char* SourceText(KvCacheSource source) {
  switch (source) {
    case KvCacheSource::kAsked:
      return "--kv-cache-memory";
    case KvCacheSource::kFullContexts:
      return "room for 32 full contexts";
    case KvCacheSource::kFreeMemory:
      break;
  }
  return "half of free memory, estimated; serve measures it once the weights are loaded";
}

// What `trireme serve` with the same settings takes. Where free memory decides, only an estimate:
// of now, less what the weights take in the file and the activations.
absl::Status AddKvCache(const LoadOptions& load, const ModelFiles& files, const KvShape& kv,
                        json::object* facts, KvCachePlan* plan) {
  const auto activation_bytes = static_cast<int64_t>(
      Decoder::WorkspaceBytes(files.spec, DecoderLimitsOf(load.scheduler), DType::kF32));
  std::optional<int64_t> free = AvailableMemoryBytes();
  if (free) *free -= files.checkpoint->size_bytes() + activation_bytes;
  TRIREME_ASSIGN_OR_RETURN(*plan, PlanKvCache(load, kv, files.spec.max_context, {free}));
  const int64_t context_blocks = (plan->max_context + kv.block_size - 1) / kv.block_size;
  (*facts)["context_tokens"] = plan->max_context;
  (*facts)["activation_bytes"] = activation_bytes;
  (*facts)["kv_dtype"] = std::string(DTypeName(kv.dtype));
  (*facts)["kv_bytes_per_token"] = kv.block_bytes() / kv.block_size;
  (*facts)["kv_block_bytes"] = kv.block_bytes();
  (*facts)["kv_block_tokens"] = kv.block_size;
  (*facts)["kv_cache_bytes"] = plan->num_blocks * kv.block_bytes();
  (*facts)["kv_cache_from"] = SourceText(plan->source);
  (*facts)["kv_blocks"] = plan->num_blocks;
  (*facts)["kv_tokens"] = int64_t{plan->num_blocks} * kv.block_size;
  (*facts)["full_contexts"] = plan->num_blocks / context_blocks;
  (*facts)["full_context_bytes"] = context_blocks * kv.block_bytes();
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Bandwidth(const Options& options, json::object* facts) {
  if (options.inspect.bandwidth_gb_s) {
    (*facts)["bandwidth_from"] = "--bandwidth";
    return static_cast<int64_t>(*options.inspect.bandwidth_gb_s * 1e9);
  }
  const int asked = options.load.num_threads;
  const int cores = AvailableCpus();
  const int threads = asked > 0 ? std::min(asked, cores) : cores;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal) std::cerr << "Measuring memory bandwidth ..." << std::flush;
  auto measured = MeasureReadBandwidth(threads, kMeasuringTime);
  if (terminal) std::cerr << "\r\033[K" << std::flush;
  (*facts)["bandwidth_from"] =
      StrCat("measured: ", threads, threads == 1 ? " thread" : " threads", " reading");
  return measured;
}

// One stream: each token waits for all its bytes. More streams share the reading of the weights.
absl::Status AddCeilings(const Options& options, const ModelFiles& files, const KvShape& kv,
                         int context, json::object* facts) {
  const int64_t weights = DecodeWeightBytes(files.spec, *files.checkpoint);
  const int64_t full = weights + DecodeKvBytes(files.spec, kv, context);
  TRIREME_ASSIGN_OR_RETURN(const int64_t bandwidth, Bandwidth(options, facts));
  (*facts)["bandwidth_bytes_per_s"] = bandwidth;
  (*facts)["decode_bytes_per_token"] = weights;
  (*facts)["decode_bytes_per_token_at_full_context"] = full;
  const auto rate = static_cast<double>(bandwidth);
  (*facts)["ceiling_tokens_per_s"] = rate / static_cast<double>(weights);
  (*facts)["ceiling_tokens_per_s_at_full_context"] = rate / static_cast<double>(full);
  return absl::OkStatus();
}

void AddDetails(const ModelFiles& files, json::object* out) {
  if (files.gguf != nullptr) {
    json::object metadata;
    for (const auto& [key, value] : files.gguf->Describe()) metadata[key] = value;
    (*out)["metadata"] = std::move(metadata);
  }
  json::array tensors;
  for (const std::string& name : files.checkpoint->Names()) {
    auto tensor = files.checkpoint->Find(name);
    if (!tensor.ok()) continue;
    json::array shape(tensor->shape.begin(), tensor->shape.end());
    tensors.push_back({{"name", Printable(name)},
                       {"type", std::string(DTypeName(tensor->dtype))},
                       {"shape", std::move(shape)}});
  }
  (*out)["tensor_list"] = std::move(tensors);
}

void PrintValue(std::string_view key, const json::value& value) {
  if (const auto* object = value.if_object()) {
    for (const auto& [k, v] : *object)
      std::cout << "\n  " << std::string(k) << " = " << std::string(v.as_string());
  } else if (const auto* list = value.if_array()) {
    for (const auto& item : *list) std::cout << "\n  " << json::serialize(item);
  } else if (value.is_string()) {
    std::cout << " " << std::string(value.get_string());
  } else if (value.is_double()) {
    char text[32];
    std::snprintf(text, sizeof text, " %.4g", value.get_double());
    std::cout << text;
  } else {
    std::cout << " " << json::serialize(value);
  }
  if (value.is_int64() && key.find("bytes") != key.npos) {
    std::cout << "  (" << SizeText(value.get_int64()) << (key.ends_with("_per_s") ? "/s)" : ")");
  }
  std::cout << "\n";
}

absl::Status Run(const Options& options) {
  const LoadOptions& load = options.load;
  TRIREME_ASSIGN_OR_RETURN(const ModelFiles files, OpenModelFiles(load.model));
  TRIREME_RETURN_IF_ERROR(
      Annotate(Decoder::CheckTensors(files.spec, *files.checkpoint), load.model));
  TRIREME_ASSIGN_OR_RETURN(const ModelText text, OpenModelText(files));
  TRIREME_ASSIGN_OR_RETURN(const auto chat_template,
                           CompileChatTemplate(text, load.chat_template_file));
  const std::string type = DominantType(*files.checkpoint);
  const KvShape kv =
      KvShape::Of(files.spec, load.scheduler.block_size, KvDType(load.kv_cache_dtype, type));
  json::object facts;
  KvCachePlan plan;
  AddModel(files, type, &facts);
  facts["chat_template"] = chat_template != nullptr;
  TRIREME_RETURN_IF_ERROR(AddKvCache(load, files, kv, &facts, &plan));
  TRIREME_RETURN_IF_ERROR(AddCeilings(options, files, kv, plan.max_context, &facts));
  if (options.inspect.metadata) AddDetails(files, &facts);
  if (options.json) {
    std::cout << json::serialize(facts) << "\n";
    return absl::OkStatus();
  }
  for (const auto& [key, value] : facts) {
    std::cout << std::string(key) << ":";
    PrintValue({key.data(), key.size()}, value);
  }
  return absl::OkStatus();
}

}  // namespace

int RunInspect(const Options& options) {
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  WarnOfUnknownVariables(options);
  const absl::Status status = Run(options);
  if (status.ok()) return kExitOk;
  std::cerr << "trireme inspect: " << std::string(status.message()) << "\n";
  return kExitFailure;
}

}  // namespace trireme
