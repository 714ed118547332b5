// A model's files: whether serve can load them, and whether they fit.
#include "runtime/base/memory.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_files.h"
#include "server/doctor/doctor.h"
#include "server/node/model_text.h"

namespace trireme::doctor {
namespace {

Finding Fit(const Host& host, const LoadOptions& load, const ModelFiles& files) {
  const DecoderSpec& spec = files.spec;
  const std::string type = DominantType(*files.checkpoint);
  const int64_t weights = files.checkpoint->size_bytes();
  const auto activations = static_cast<int64_t>(
      Decoder::WorkspaceBytes(spec, DecoderLimitsOf(load.scheduler), DType::kF32));
  const KvShape kv =
      KvShape::Of(spec, load.scheduler.block_size, KvDType(load.kv_cache_dtype, type));
  const auto available = AvailableMemoryBytes(host.root);
  const std::string needs =
      StrCat("weights ", SizeText(weights), ", activations ", SizeText(activations));
  constexpr char kCheck[] = "model.memory";
  if (available && weights + activations > *available) {
    return {Level::kError, kCheck, StrCat(needs, "; ", SizeText(*available), " are available"),
            "serve will not start, or be killed",
            "take a smaller or a quantised model (Q4_K, Q8_0), or a machine with more memory"};
  }
  const auto plan =
      PlanKvCache(load, kv, spec.max_context,
                  {available ? std::optional(*available - weights - activations) : std::nullopt});
  if (!plan.ok()) {
    return {Level::kError, kCheck, std::string(plan.status().message()), "serve will not start",
            "give --kv-cache-memory, or --max-context less"};
  }
  const std::string all = StrCat(needs, ", KV cache ", SizeText(plan->bytes));
  if (available && weights + activations + plan->bytes > *available) {
    return {Level::kError, kCheck, StrCat(all, "; ", SizeText(*available), " are available"),
            "serve may be killed when the cache fills",
            StrCat("--kv-cache-memory ", ((*available - weights - activations) >> 21) + 1, "MiB")};
  }
  if (plan->max_context < plan->wanted_context) {
    return {Level::kWarning, kCheck, all,
            StrCat("the KV cache holds contexts of ", plan->max_context, " tokens, not of ",
                   plan->wanted_context),
            "give --kv-cache-memory more, or --kv-cache-dtype f16"};
  }
  return {Level::kOk, kCheck, all};
}

}  // namespace

Findings CheckModel(const Host& host, const Settings& settings) {
  const auto broken = [](std::string seen, std::string mend) {
    return Finding{Level::kError, "model.files", std::move(seen), "serve cannot load it",
                   std::move(mend)};
  };
  if (!settings.model_error.empty()) {
    return {broken(settings.model_error, StrCat("trireme pull ", ShellQuote(settings.load.model)))};
  }
  if (settings.load.model.empty()) return {};
  const auto files = OpenModelFiles(settings.load.model);
  constexpr char kFetchAgain[] = "fetch it again, and compare its checksum";
  if (!files.ok()) {
    return {broken(std::string(files.status().message()),
                   absl::IsNotFound(files.status())
                       ? StrCat("ls -ld ", ShellQuote(settings.load.model))
                       : kFetchAgain)};
  }
  const absl::Status tensors = Decoder::CheckTensors(files->spec, *files->checkpoint);
  if (!tensors.ok()) return {broken(std::string(tensors.message()), kFetchAgain)};
  const auto text = OpenModelText(*files);
  if (!text.ok()) return {broken(std::string(text.status().message()), kFetchAgain)};
  const auto chat_template = CompileChatTemplate(*text, settings.load.chat_template_file);
  if (!chat_template.ok()) {
    return {broken(std::string(chat_template.status().message()), "give --chat-template FILE")};
  }
  return {{Level::kOk, "model.files",
           StrCat(files->spec.architecture, ", ", files->checkpoint->Names().size(), " tensors, ",
                  DominantType(*files->checkpoint))},
          Fit(host, settings.load, *files)};
}

}  // namespace trireme::doctor
