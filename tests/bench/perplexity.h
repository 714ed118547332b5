// How well a model predicts a text: what is lost when products are computed in other ways shows
// here.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace trireme {

struct Perplexity {
  double value = 0;    // e to the mean of -ln p(token | the tokens of its window before it)
  int num_tokens = 0;  // that were predicted
};

// Of the text of `text_file` (UTF-8), by the model at `model`, on the CPU backend with so many
// threads and 16-bit K and V. Counted as llama-perplexity does with its defaults, so that both give
// the same but for rounding: windows of 512 tokens side by side, the rest of the text left out, the
// first token of each replaced by BOS where the vocabulary puts one; the last 255 tokens of a
// window are predicted. INVALID_ARGUMENT: the text has fewer tokens than a window.
absl::StatusOr<Perplexity> MeasurePerplexity(const std::string& model, const std::string& text_file,
                                             int threads);

}  // namespace trireme
