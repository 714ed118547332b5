// Token ids to text, incrementally, for one choice of one request. Holds back what may still
// change: an unfinished UTF-8 sequence, and a suffix that could be the beginning of a stop string.
#pragma once

#include <string>
#include <vector>

#include "runtime/text/stop_matcher.h"
#include "runtime/text/tokenizer.h"

namespace trireme {

// Not thread-safe. The texts that Push and Finish return make up Tokenizer::Decode of all ids, cut
// at the stop string.
class StreamDecoder {
 public:
  struct Options {
    std::vector<std::string> stop;  // stop strings; at most 4 by the wire, any number here
    bool include_stop = false;      // keep the matched stop string in the text
    bool skip_special = true;
    int min_tokens =
        0;  // stop strings completed by an earlier token than this (from 1) do not count
    bool continues_text =
        false;  // the text goes on from a prompt: a SentencePiece vocabulary's leading space stays
  };
  // `tokenizer` must outlive the decoder.
  StreamDecoder(const Tokenizer* tokenizer, Options options);

  // Appends one token. Returns the text that became final with it (valid UTF-8, possibly empty).
  // After a stop string matched, returns what preceded it and `stopped()` is true; further tokens
  // are ignored. Where one token completes several stop strings, the one that begins first counts,
  // and of those the longest. O(bytes of the token) amortized.
  std::string Push(TokenId id);
  // End of generation: releases what was held (an unfinished sequence becomes U+FFFD, which may
  // complete a stop string).
  std::string Finish();

  bool stopped() const { return stopped_; }
  const std::string& matched_stop() const { return matched_stop_; }

 private:
  std::string Release(bool is_last);

  const Tokenizer* const tokenizer_;
  const Options options_;
  StopMatcher matcher_;
  std::string bytes_;          // undecoded tail: incomplete UTF-8
  std::string held_;           // valid text that may be the start of a stop string
  uint64_t num_released_ = 0;  // bytes of text returned so far: where held_ begins
  int64_t num_tokens_ = 0;
  bool strip_space_;  // the next byte is the first of the text, and dropped if a space
  bool stopped_ = false;
  std::string matched_stop_;
};

}  // namespace trireme
