#include "tests/bench/perplexity.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <numeric>
#include <sstream>
#include <vector>

#include "absl/types/span.h"
#include "runtime/backend/cpu_backend.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/model_files.h"
#include "server/node/model_text.h"

namespace trireme {
namespace {

constexpr int kWindow = 512;
// The first position whose logits are wanted: those before it see too little of the text.
constexpr int kFirst = kWindow / 2;
constexpr int kPredictions = kWindow - 1 - kFirst;  // the last position's token is outside
constexpr int kBlockSize = 16;

absl::StatusOr<std::vector<TokenId>> TokensOf(const std::string& text_file,
                                              const Tokenizer& tokenizer) {
  std::ifstream file(text_file, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::NotFoundError(StrCat(text_file, ": cannot be read"));
  std::string read = text.str();
  if (read.ends_with('\n')) read.pop_back();  // as the peer does
  return tokenizer.Encode(read, Tokenizer::SpecialTokens::kAsText, /*add_special=*/true);
}

double LogProbability(absl::Span<const float> logits, TokenId token) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return logits[static_cast<size_t>(token)] - max - std::log(sum);
}

}  // namespace

absl::StatusOr<Perplexity> MeasurePerplexity(const std::string& model, const std::string& text_file,
                                             int threads) {
  TRIREME_ASSIGN_OR_RETURN(const ModelFiles files, OpenModelFiles(model));
  TRIREME_ASSIGN_OR_RETURN(const ModelText text, OpenModelText(files));
  TRIREME_ASSIGN_OR_RETURN(std::vector<TokenId> tokens, TokensOf(text_file, *text.tokenizer));
  const TokenizerSpec& spec = text.tokenizer->spec();
  if (text.tokenizer->vocab_size() > files.spec.vocab_size) {
    return absl::InvalidArgumentError(
        StrCat(model, ": its tokenizer has more tokens than its embedding"));
  }
  const size_t num_windows = tokens.size() / kWindow;
  if (num_windows == 0) {
    return absl::InvalidArgumentError(
        StrCat(text_file, ": ", tokens.size(), " tokens are fewer than a window of ", kWindow));
  }

  TRIREME_ASSIGN_OR_RETURN(const auto backend, MakeCpuBackend({.num_threads = threads}));
  const DecoderLimits limits = {.max_step_tokens = kWindow, .max_logit_tokens = kPredictions};
  TRIREME_ASSIGN_OR_RETURN(const auto decoder,
                           Decoder::Load(files.spec, *files.checkpoint, *backend, limits, {}));
  constexpr int kBlocks = kWindow / kBlockSize;
  TRIREME_ASSIGN_OR_RETURN(
      const auto kv,
      KvStorage::Create(KvShape::Of(files.spec, kBlockSize, DType::kF16), kBlocks, *backend));
  const auto vocab = static_cast<size_t>(files.spec.vocab_size);
  TRIREME_ASSIGN_OR_RETURN(const auto memory,
                           backend->AllocateReadable(kPredictions * vocab * sizeof(float)));
  const Tensor logits = {memory->data(), DType::kF32, kPredictions, files.spec.vocab_size};

  std::vector<BlockId> blocks(kBlocks);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<int32_t> logit_tokens(kPredictions);
  std::iota(logit_tokens.begin(), logit_tokens.end(), kFirst);
  const SequenceSlice slice = {0, kWindow, 0, blocks};
  double sum = 0;
  for (size_t i = 0; i < num_windows; ++i) {
    const absl::Span<TokenId> window = absl::MakeSpan(tokens).subspan(i * kWindow, kWindow);
    if (spec.add_bos && spec.bos) window[0] = *spec.bos;
    decoder->Forward({window, {&slice, 1}, logit_tokens}, *kv, *backend, logits);
    TRIREME_RETURN_IF_ERROR(backend->Synchronize());
    const auto* const rows = static_cast<const float*>(memory->data());
    for (int j = 0; j < kPredictions; ++j) {
      sum += LogProbability({rows + static_cast<size_t>(j) * vocab, vocab}, window[kFirst + j + 1]);
    }
  }
  const int num_tokens = static_cast<int>(num_windows) * kPredictions;
  return Perplexity{.value = std::exp(-sum / num_tokens), .num_tokens = num_tokens};
}

}  // namespace trireme
