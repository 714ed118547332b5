#include "tests/fakes/tiny_tokenizer.h"

#include <vector>

#include "runtime/base/strings.h"
#include "tests/fakes/files.h"
#include "tests/fakes/tiny_model.h"

namespace trireme::fakes {
namespace {

constexpr std::string_view kSpecialTokens[] = {"<|bos|>", "<|im_end|>", "<|im_start|>"};
constexpr std::string_view kChatTemplate =
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

// GPT-2's printable stand-in for a byte, as UTF-8: printable Latin-1 stands for itself, the rest
// for U+0100 onwards.
std::string ByteSymbol(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  int code_point = byte;
  if (!printable(byte)) {
    code_point = 256;
    for (int b = 0; b < byte; ++b) code_point += printable(b) ? 0 : 1;
  }
  if (code_point < 128) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 63))};
}

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

}  // namespace

void WriteTinyTokenizer(const std::string& directory) {
  std::string vocab, added;
  for (int byte = 0; byte < 256; ++byte) {
    StrAppend(&vocab, byte == 0 ? "" : ",", JsonString(ByteSymbol(byte)), ":", byte);
  }
  for (int i = 0; i < 3; ++i) {
    StrAppend(
        &added, i == 0 ? "" : ",", R"({"id":)", 256 + i, R"(,"content":)",
        JsonString(kSpecialTokens[i]),
        R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true})");
  }
  WriteFile(
      directory + "/tokenizer.json",
      StrCat(
          R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)", added,
          R"(],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)",
          R"("trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel",)",
          R"("add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE",)",
          R"("dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,)",
          R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{)", vocab,
          R"(},"merges":[]}})"));
  WriteFile(
      directory + "/tokenizer_config.json",
      StrCat(
          R"({"tokenizer_class":"PreTrainedTokenizerFast","bos_token":"<|bos|>","eos_token":"<|im_end|>",)",
          R"("chat_template":)", JsonString(kChatTemplate), "}"));
  WriteFile(
      directory + "/generation_config.json",
      StrCat(R"({"bos_token_id":)", TinyModel::kBos, R"(,"eos_token_id":)", TinyModel::kEos, "}"));
}

void SetTinyTokenizer(GgufWriter* writer) {
  constexpr int32_t kNormal = 1, kControl = 3;
  std::vector<std::string> tokens;
  std::vector<int32_t> types(256, kNormal);
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(ByteSymbol(byte));
  for (const std::string_view token : kSpecialTokens) {
    tokens.emplace_back(token);
    types.push_back(kControl);
  }
  writer->SetString("tokenizer.ggml.model", "gpt2");
  writer->SetString("tokenizer.ggml.pre", "gpt-2");
  writer->SetStrings("tokenizer.ggml.tokens", tokens);
  writer->SetInts("tokenizer.ggml.token_type", types);
  writer->SetStrings("tokenizer.ggml.merges", {});
  writer->SetUint32("tokenizer.ggml.bos_token_id", TinyModel::kBos);
  writer->SetUint32("tokenizer.ggml.eos_token_id", TinyModel::kEos);
  writer->SetBool("tokenizer.ggml.add_bos_token", false);
  writer->SetString("tokenizer.chat_template", kChatTemplate);
}

}  // namespace trireme::fakes
