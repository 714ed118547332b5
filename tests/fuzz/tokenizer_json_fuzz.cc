// tokenizer.json NUL tokenizer_config.json NUL text: refused by a path, or a tokenizer whose ids
// are in its vocabulary and whose text is UTF-8, the same in one piece and token by token.
#include "runtime/text/stream_decoder.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {

void OneInput(std::string_view data) {
  constexpr size_t kMaxTextBytes = 4096;
  const std::vector<std::string_view> parts = Parts(data, 3);
  auto spec = ParseTokenizerJson(parts[0], parts[1]);
  if (!spec.ok()) return CheckError(spec.status());
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  if (!tokenizer.ok()) return CheckError(tokenizer.status());
  const std::string_view text = parts[2].substr(0, kMaxTextBytes);
  for (const auto special : {Tokenizer::SpecialTokens::kAsText, Tokenizer::SpecialTokens::kParse}) {
    const std::vector<TokenId> ids = (*tokenizer)->Encode(text, special, /*add_special=*/true);
    if (const auto bytes = (*tokenizer)->max_bytes_per_token()) {
      FUZZ_CHECK(text.size() <= (ids.size() + 1) * *bytes, "max_bytes_per_token");
    }
    StreamDecoder decoder(tokenizer->get(), {.skip_special = false});
    std::string streamed;
    for (const TokenId id : ids) {
      FUZZ_CHECK(id >= 0 && id < (*tokenizer)->vocab_size(), text);
      streamed += decoder.Push(id);
    }
    streamed += decoder.Finish();
    const std::string decoded = (*tokenizer)->Decode(ids, /*skip_special=*/false);
    FUZZ_CHECK(IsValidUtf8(decoded), decoded);
    FUZZ_CHECK(streamed == decoded, streamed);
  }
}

}  // namespace trireme::fuzz
