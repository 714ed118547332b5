#include "runtime/text/stream_decoder.h"

#include <utility>

#include "runtime/text/utf8.h"

namespace trireme {

StreamDecoder::StreamDecoder(const Tokenizer* tokenizer, Options options)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      matcher_(options_.stop),
      strip_space_(tokenizer->spec().strip_leading_space && !options_.continues_text) {}

std::string StreamDecoder::Push(TokenId id) {
  if (stopped_) return {};
  ++num_tokens_;
  if (options_.skip_special && tokenizer_->IsSpecial(id)) return {};
  std::string_view bytes = tokenizer_->TokenBytes(id);
  if (strip_space_ && !bytes.empty()) {
    if (bytes[0] == ' ') bytes.remove_prefix(1);
    strip_space_ = false;
  }
  bytes_.append(bytes);
  return Release(/*is_last=*/false);
}

std::string StreamDecoder::Finish() { return stopped_ ? std::string() : Release(/*is_last=*/true); }

std::string StreamDecoder::Release(bool is_last) {
  const size_t begin = held_.size();
  bytes_.erase(0, AppendValidUtf8(bytes_, /*keep_incomplete=*/!is_last, &held_));
  const StopMatcher::Match match = matcher_.Scan(std::string_view(held_).substr(begin));

  size_t num_final = held_.size();
  if (!match.stop.empty() && num_tokens_ >= options_.min_tokens) {
    stopped_ = true;
    matched_stop_ = match.stop;
    num_final = match.begin - num_released_ + (options_.include_stop ? match.stop.size() : 0);
  } else if (!is_last) {
    num_final -= matcher_.num_pending();
  }
  std::string text = held_.substr(0, num_final);
  held_.erase(0, num_final);
  num_released_ += num_final;
  return text;
}

}  // namespace trireme
