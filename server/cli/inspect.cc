// trireme inspect: what a model is and what it needs, without loading it.
#include <boost/json.hpp>
#include <cstdio>
#include <iostream>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/model/model_files.h"
#include "runtime/model/plan.h"
#include "server/cli/commands.h"
#include "server/node/model_text.h"

namespace trireme {
namespace {

// "1.5 GiB"
std::string Size(int64_t bytes) {
  char text[32];
  const double mib = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof text, mib < 1024 ? "%.1f MiB" : "%.2f GiB",
                mib < 1024 ? mib : mib / 1024);
  return text;
}

void AddDetails(const ModelFiles& files, boost::json::object* out) {
  if (files.gguf != nullptr) {
    boost::json::object metadata;
    for (const auto& [key, value] : files.gguf->Describe()) metadata[key] = value;
    (*out)["metadata"] = std::move(metadata);
  }
  boost::json::array tensors;
  for (const std::string& name : files.checkpoint->Names()) {
    auto tensor = files.checkpoint->Find(name);
    if (!tensor.ok()) continue;
    boost::json::array shape(tensor->shape.begin(), tensor->shape.end());
    tensors.push_back({{"name", name},
                       {"type", std::string(DTypeName(tensor->dtype))},
                       {"shape", std::move(shape)}});
  }
  (*out)["tensors"] = std::move(tensors);
}

void Print(const boost::json::object& facts) {
  for (const auto& [key, value] : facts) {
    std::cout << std::string(key) << ":";
    if (const auto* object = value.if_object()) {
      for (const auto& [k, v] : *object)
        std::cout << "\n  " << std::string(k) << " = " << std::string(v.as_string());
    } else if (const auto* list = value.if_array()) {
      for (const auto& item : *list) std::cout << "\n  " << boost::json::serialize(item);
    } else if (value.is_string()) {
      std::cout << " " << std::string(value.get_string());
    } else {
      std::cout << " " << boost::json::serialize(value);
    }
    if (key.ends_with("_bytes") && value.is_int64())
      std::cout << "  (" << Size(value.get_int64()) << ")";
    std::cout << "\n";
  }
}

absl::Status Run(const InspectOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFiles files, OpenModelFiles(options.load.model));
  const DecoderSpec& spec = files.spec;
  const std::string type = DominantType(*files.checkpoint);
  const int block_size = options.load.scheduler.block_size;
  const int context = options.load.max_context_tokens > 0
                          ? std::min(options.load.max_context_tokens, spec.max_context)
                          : spec.max_context;
  const KvShape kv = KvShape::Of(spec, block_size, KvDType(options.load.kv_cache_dtype, type));
  const int64_t context_bytes = (context + block_size - 1) / block_size * kv.block_bytes();
  boost::json::object facts = {{"architecture", spec.architecture},
                               {"parameters", CountParameters(spec)},
                               {"weights", type},
                               {"weight_bytes", files.checkpoint->size_bytes()},
                               {"layers", spec.num_layers},
                               {"hidden_size", spec.hidden_size},
                               {"heads", spec.num_heads},
                               {"kv_heads", spec.num_kv_heads},
                               {"head_dim", spec.head_dim},
                               {"vocab_size", spec.vocab_size},
                               {"context_tokens", context},
                               {"kv_dtype", std::string(DTypeName(kv.dtype))},
                               {"kv_bytes_per_token", kv.block_bytes() / block_size},
                               {"kv_block_bytes", kv.block_bytes()},
                               {"full_context_bytes", context_bytes}};
  if (const int64_t budget = options.load.kv_cache_bytes; budget > 0) {
    facts["kv_blocks"] = budget / kv.block_bytes();
    facts["kv_tokens"] = budget / kv.block_bytes() * block_size;
    facts["full_contexts"] = budget / context_bytes;
  }
  if (options.metadata) AddDetails(files, &facts);
  if (options.json) {
    std::cout << boost::json::serialize(facts) << "\n";
  } else {
    Print(facts);
  }
  return absl::OkStatus();
}

}  // namespace

int RunInspect(const InspectOptions& options) {
  const absl::Status status = Run(options);
  if (status.ok()) return kExitOk;
  std::cerr << "trireme inspect: " << std::string(status.message()) << "\n";
  return kExitFailure;
}

}  // namespace trireme
