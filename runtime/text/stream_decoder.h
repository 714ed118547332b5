// Token ids to text, incrementally, for one choice of one request. Holds back what may still change: an unfinished
// UTF-8 sequence, and a suffix that could be the beginning of a stop string.
#pragma once

#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace trireme {

class StreamDecoder {
 public:
  struct Options {
    std::vector<std::string> stop;          // stop strings; at most 4 by the wire, any number here
    bool include_stop = false;              // keep the matched stop string in the text
    bool skip_special = true;
    int min_tokens = 0;                     // stop strings are not looked for before this many tokens
  };
  // `tokenizer` must outlive the decoder.
  StreamDecoder(const Tokenizer* tokenizer, Options options);

  // Appends one token. Returns the text that became final with it (valid UTF-8, possibly empty). After a stop string
  // matched, returns what preceded it and `stopped()` is true; further tokens are ignored.
  std::string Push(TokenId id);
  // End of generation: releases what was held (an unfinished sequence becomes U+FFFD).
  std::string Finish();

  bool stopped() const { return stopped_; }
  const std::string& matched_stop() const { return matched_stop_; }

 private:
  std::string Release(bool final);
  const Tokenizer* const tokenizer_;
  const Options options_;
  std::string bytes_;  // undecoded tail: incomplete UTF-8
  std::string held_;   // valid text that may be the start of a stop string
  size_t num_tokens_ = 0;
  bool first_ = true;  // SentencePiece drops the dummy prefix space of the first piece
  bool stopped_ = false;
  std::string matched_stop_;
};

}  // namespace trireme
