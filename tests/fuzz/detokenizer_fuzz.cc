// Options, stop strings and token ids: the parts are UTF-8 and make up the whole text, cut at the
// first stop string.
#include <algorithm>

#include "runtime/text/byte_alphabet.h"
#include "runtime/text/stream_decoder.h"
#include "runtime/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {
namespace {

const Tokenizer& Bytes() {
  static const Tokenizer* const tokenizer = [] {
    TokenizerSpec spec;
    for (int byte = 0; byte < 256; ++byte) {
      spec.tokens.push_back(TokenOfBytes(std::string(1, static_cast<char>(byte))));
    }
    spec.tokens.push_back(TokenOfBytes("\xe2\x82"));  // two thirds of a euro
    spec.tokens.push_back(TokenOfBytes("stop"));
    spec.tokens.push_back("<|end|>");
    spec.added_tokens.push_back({.id = 258, .content = "<|end|>", .special = true});
    return Tokenizer::Create(std::move(spec)).value().release();
  }();
  return *tokenizer;
}

// The text before and (asked for) with the first match; of those that begin there the longest that
// some token completes first.
std::string CutAt(const std::string& text, const StreamDecoder& decoder, bool include) {
  const size_t at = text.find(decoder.matched_stop());
  FUZZ_CHECK(at != std::string::npos, text);
  return text.substr(0, at + (include ? decoder.matched_stop().size() : 0));
}

}  // namespace

void OneInput(std::string_view data) {
  const std::vector<std::string_view> parts = Parts(data, 4);
  if (parts[0].empty()) return;
  StreamDecoder::Options options;
  options.include_stop = (parts[0][0] & 1) != 0;
  options.skip_special = (parts[0][0] & 2) != 0;
  options.stop = {std::string(parts[1]), std::string(parts[2])};
  // One byte is one id; 0xff and the byte after it reach beyond, to unknown ids, too.
  std::vector<TokenId> ids;
  for (size_t i = 0; i < parts[3].size(); ++i) {
    TokenId id = static_cast<unsigned char>(parts[3][i]);
    if (id == 255 && i + 1 < parts[3].size())
      id = 250 + static_cast<unsigned char>(parts[3][++i]) % 12;
    ids.push_back(id);
  }
  StreamDecoder decoder(&Bytes(), options);
  std::string streamed;
  for (const TokenId id : ids) {
    const std::string part = decoder.Push(id);
    FUZZ_CHECK(IsValidUtf8(part), part);
    streamed += part;
    if (decoder.stopped()) break;
  }
  const std::string rest = decoder.Finish();
  FUZZ_CHECK(IsValidUtf8(rest), rest);
  streamed += rest;
  const std::string whole = Bytes().Decode(ids, options.skip_special);
  FUZZ_CHECK(IsValidUtf8(whole), whole);
  if (!decoder.stopped()) {
    FUZZ_CHECK(streamed == whole, streamed);
    for (const std::string& stop : options.stop) {
      const bool possible = !stop.empty() && IsValidUtf8(stop);
      FUZZ_CHECK(!possible || whole.find(stop) == std::string::npos, whole);
    }
  } else {
    FUZZ_CHECK(streamed == CutAt(whole, decoder, options.include_stop), streamed);
  }
}

}  // namespace trireme::fuzz
