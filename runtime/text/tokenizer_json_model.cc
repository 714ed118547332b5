// "model" and "added_tokens" of tokenizer.json: which tokens there are, and how they merge.
#include <algorithm>
#include <boost/json.hpp>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "runtime/text/tokenizer_json_reader.h"

namespace trireme {
namespace {

namespace json = boost::json;

// Ids may be left out (tokens that were removed), but a small file must not ask for a large table.
constexpr int64_t kMaxUnusedIds = 1 << 16;

}  // namespace

// Ids come in any order: the table grows with them, but not past what the number of tokens
// justifies.
absl::Status TokenizerJsonReader::PlaceToken(const JsonNode& where, int64_t id,
                                             std::string_view text) {
  const auto size = static_cast<int64_t>(spec_.tokens.size());
  if (id < 0 || id >= size) {
    return where.Error(StrCat("id ", id, " leaves more than ", kMaxUnusedIds, " ids unused"));
  }
  if (spec_.tokens[id] == text) return absl::OkStatus();
  if (!spec_.tokens[id].empty()) return where.Error(StrCat("id ", id, " has another token"));
  spec_.tokens[id] = std::string(text);
  ++num_placed_;
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadModel() {
  const JsonNode model = root_.Member("model");
  TRIREME_RETURN_IF_ERROR(model.AsObject().status());
  if (!model.Member("type").absent()) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view type, TypeOf(model));
    if (type != "BPE") return UnsupportedType(model, type);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonNode affix = model.Member(key);
    if (affix.absent()) continue;
    TRIREME_ASSIGN_OR_RETURN(const std::string_view text, affix.AsString());
    if (!text.empty()) return affix.Error("is not supported");
  }
  if (const JsonNode dropout = model.Member("dropout"); !dropout.absent()) {
    if (!dropout.value()->is_number() || dropout.value()->to_number<double>() != 0) {
      return dropout.Error("is not supported");
    }
  }
  TRIREME_ASSIGN_OR_RETURN(spec_.byte_fallback, model.Member("byte_fallback").AsBool(false));
  TRIREME_ASSIGN_OR_RETURN(spec_.fuse_unk, model.Member("fuse_unk").AsBool(false));
  TRIREME_ASSIGN_OR_RETURN(spec_.ignore_merges, model.Member("ignore_merges").AsBool(false));
  TRIREME_RETURN_IF_ERROR(ReadVocab(model.Member("vocab")));
  if (const JsonNode unk = model.Member("unk_token"); !unk.absent()) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view text, unk.AsString());
    const auto found = std::find(spec_.tokens.begin(), spec_.tokens.end(), text);
    if (text.empty() || found == spec_.tokens.end()) return unk.Error("is not in model.vocab");
    spec_.unk = static_cast<TokenId>(found - spec_.tokens.begin());
  }
  return ReadMerges(model.Member("merges"));
}

absl::Status TokenizerJsonReader::ReadVocab(const JsonNode& vocab) {
  TRIREME_ASSIGN_OR_RETURN(const json::object* entries, vocab.AsObject());
  const JsonNode added = root_.Member("added_tokens");
  size_t num_tokens = entries->size();
  if (!added.absent()) {
    TRIREME_ASSIGN_OR_RETURN(const json::array* list, added.AsArray());
    num_tokens += list->size();
  }
  const int64_t limit = static_cast<int64_t>(num_tokens) + kMaxUnusedIds;
  spec_.tokens.resize(limit);
  for (const auto& [text, id] : *entries) {
    const JsonNode entry(&id, vocab.path());
    TRIREME_ASSIGN_OR_RETURN(const int64_t value, entry.AsInt());
    TRIREME_RETURN_IF_ERROR(PlaceToken(entry, value, std::string_view(text.data(), text.size())));
  }
  if (num_placed_ != static_cast<int64_t>(entries->size())) return vocab.Error("an empty token");
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadMerges(const JsonNode& merges) {
  TRIREME_ASSIGN_OR_RETURN(const json::array* list, merges.AsArray());
  spec_.merges.reserve(list->size());
  for (size_t i = 0; i < list->size(); ++i) {
    const json::value& merge = (*list)[i];
    if (merge.is_string()) {  // "left right"
      TRIREME_ASSIGN_OR_RETURN(const std::string_view text, merges.Element(i).AsString());
      const size_t space = text.find(' ');
      if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
        spec_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
        continue;
      }
    } else if (const json::array* pair = merge.if_array()) {  // ["left", "right"]
      if (pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
        spec_.merges.emplace_back((*pair)[0].as_string(), (*pair)[1].as_string());
        continue;
      }
    }
    return merges.Element(i).Error("not two pieces");
  }
  return absl::OkStatus();
}

absl::Status TokenizerJsonReader::ReadAddedTokens() {
  const JsonNode added = root_.Member("added_tokens");
  if (!added.absent()) {
    TRIREME_ASSIGN_OR_RETURN(const json::array* list, added.AsArray());
    for (size_t i = 0; i < list->size(); ++i) {
      const JsonNode node = added.Element(i);
      TokenizerSpec::AddedToken token;
      TRIREME_ASSIGN_OR_RETURN(const int64_t id, node.Member("id").AsInt());
      TRIREME_ASSIGN_OR_RETURN(const std::string_view content, node.Member("content").AsString());
      if (content.empty()) return node.Member("content").Error("empty");
      TRIREME_ASSIGN_OR_RETURN(token.special, node.Member("special").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.lstrip, node.Member("lstrip").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.rstrip, node.Member("rstrip").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.single_word, node.Member("single_word").AsBool(false));
      TRIREME_ASSIGN_OR_RETURN(token.normalized, node.Member("normalized").AsBool(true));
      TRIREME_RETURN_IF_ERROR(PlaceToken(node.Member("id"), id, content));
      token.id = static_cast<TokenId>(id);
      token.content = std::string(content);
      spec_.added_tokens.push_back(std::move(token));
    }
  }
  while (!spec_.tokens.empty() && spec_.tokens.back().empty()) spec_.tokens.pop_back();
  return absl::OkStatus();
}

}  // namespace trireme
