// What is asked: request after request, the same for the same seed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/loadgen/dataset.h"
#include "server/loadgen/lengths.h"
#include "server/loadgen/random.h"

namespace trireme::loadgen {

struct WorkloadOptions {
  LengthDistribution prompt_tokens = LengthDistribution::Fixed(256);  // of made-up prompts
  std::optional<LengthDistribution> output_tokens;  // default: the dataset's lengths, else 128
  std::string dataset_file;                         // empty: prompts are made up
  float shared_prefix_share = 0;                    // of the prompts that begin alike
  int shared_prefix_tokens = 256;                   // on top of the prompt's own length
  bool ignore_eos = true;                           // answers have the length that was asked for
};

struct Request {
  std::vector<Message> messages;
  int max_tokens = 1;
  bool ignore_eos = true;
};

// Made-up prompts are words. How many tokens a word has, and how many a template adds, is the
// server's matter: it is measured (bench.cc) before the run. Until then a word is a token.
struct TokenScale {
  double tokens_per_word = 1;
  double overhead_tokens = 0;
};

// Not thread-safe.
class Workload {
 public:
  // Reads the dataset: errors of ReadDataset.
  static absl::StatusOr<Workload> Make(const WorkloadOptions& options, uint64_t seed);

  Request Next();
  void set_scale(TokenScale scale) { scale_ = scale; }
  bool made_up() const { return dataset_.prompts.empty(); }
  const Dataset& dataset() const { return dataset_; }
  int longest_prompt_tokens() const { return options_.prompt_tokens.longest(); }
  // A request of so many words and one token of answer, to measure the scale with.
  Request Probe(int words);

 private:
  Workload(const WorkloadOptions& options, uint64_t seed) : options_(options), random_(seed, 1) {}
  int WordsOf(int tokens, double overhead_tokens) const;

  WorkloadOptions options_;
  Dataset dataset_;  // empty: prompts are made up
  TokenScale scale_;
  Random random_;
  std::string prefix_;
  uint64_t next_prompt_ = 0;
};

}  // namespace trireme::loadgen
