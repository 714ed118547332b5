// The `tojson` filter, as json.dumps prints.
#include <algorithm>
#include <cmath>

#include "runtime/text/jinja/args.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& rt, const Args& args) : rt_(rt), out_(rt) {
    const auto [ensure_ascii, indent, separators, sort_keys] =
        Bind(rt, args, {"ensure_ascii", "indent", "separators", "sort_keys"});
    ensure_ascii_ = BoolArg(ensure_ascii, false);
    sort_keys_ = BoolArg(sort_keys, false);
    if (indent.is_integral()) {
      pretty_ = true;
      const int64_t width = std::max<int64_t>(0, indent.integer());
      indent_ = Repeat(rt, rt.NewString(" ").str(), width);
    } else if (indent.is_string()) {
      pretty_ = true;
      indent_ = indent;
    } else if (!indent.is_missing() && !indent.is_none()) {
      rt.Fail("indent must be an integer or a string");
    }
    item_separator_ = rt.NewString(pretty_ ? "," : ", ");
    key_separator_ = rt.NewString(": ");
    if (!separators.is_missing() && !separators.is_none()) {
      const Values pair = Iterate(rt, separators);
      if (pair.size() != 2) rt.Fail("separators must be a pair");
      item_separator_ = pair[0];
      key_separator_ = pair[1];
      StrArg(rt, item_separator_);
      StrArg(rt, key_separator_);
    }
  }

  Value Run(const Value& value) {
    Write(value);
    return out_.Finish();
  }

 private:
  void Write(const Value& value) {
    DepthGuard guard(rt_);
    rt_.Charge(1);
    switch (value.type()) {
      case Type::kString: return WriteString(value.str());
      case Type::kList:
        if (value.list().kind <= ListKind::kTuple) return WriteList(value.list().items);
        break;
      case Type::kDict: return WriteDict(value.dict());
      case Type::kNone:
      case Type::kBool:
      case Type::kInt:
      case Type::kFloat: return out_.Append(Scalar(value));
      default: break;
    }
    rt_.Fail(StrCat("a value of type ", TypeName(value), " is not JSON serializable"));
  }

  static std::string Scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is(Type::kBool)) return value.boolean() ? "true" : "false";
    if (value.is(Type::kInt)) return std::to_string(value.integer());
    const double number = value.number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return FloatRepr(number);
  }

  void NewLine() {
    if (!pretty_) return;
    out_.Append("\n");
    for (int i = 0; i < level_; ++i) out_.Append(indent_.str());
  }

  void WriteList(const Values& items) {
    if (items.empty()) return out_.Append("[]");
    out_.Append("[");
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.Append(item_separator_.str());
      NewLine();
      Write(items[i]);
    }
    --level_;
    NewLine();
    out_.Append("]");
  }

  void WriteDict(const Dict& dict) {
    if (dict.size() == 0) return out_.Append("{}");
    std::vector<Dict::Entry> entries(dict.entries().begin(), dict.entries().end());
    if (sort_keys_) {
      std::stable_sort(
          entries.begin(), entries.end(),
          [&](const Dict::Entry& a, const Dict::Entry& b) { return Less(rt_, a.key, b.key); });
    }
    out_.Append("{");
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.Append(item_separator_.str());
      NewLine();
      WriteKey(entries[i].key);
      out_.Append(key_separator_.str());
      Write(entries[i].value);
    }
    --level_;
    NewLine();
    out_.Append("}");
  }

  void WriteKey(const Value& key) {
    if (key.is_string()) return WriteString(key.str());
    if (!key.is_number() && !key.is_none()) rt_.Fail("keys must be strings, numbers or none");
    out_.Append(StrCat("\"", Scalar(key), "\""));
  }

  void WriteString(const Str& text) {
    out_.Append("\"");
    ForEachPiece(text, [&](size_t begin, size_t end, bool user) {
      std::string escaped;
      for (size_t pos = begin; pos < end;) Escape(NextChar(text.bytes, &pos), &escaped);
      out_.Append(escaped, user);
    });
    out_.Append("\"");
  }

  void Escape(char32_t c, std::string* out) const {
    switch (c) {
      case '"': out->append("\\\""); return;
      case '\\': out->append("\\\\"); return;
      case '\n': out->append("\\n"); return;
      case '\r': out->append("\\r"); return;
      case '\t': out->append("\\t"); return;
      case '\f': out->append("\\f"); return;
      case '\b': out->append("\\b"); return;
      default: break;
    }
    if (c >= 0x20 && (c < 0x7F || !ensure_ascii_)) return AppendChar(c, out);
    if (c == 0x7F) return AppendChar(c, out);
    if (c > 0xFFFF) {
      HexEscape(0xD800 + ((c - 0x10000) >> 10), out);
      c = 0xDC00 + ((c - 0x10000) & 0x3FF);
    }
    HexEscape(c, out);
  }

  static void HexEscape(char32_t unit, std::string* out) {
    out->append("\\u");
    for (int shift = 12; shift >= 0; shift -= 4) {
      out->push_back("0123456789abcdef"[unit >> shift & 15]);
    }
  }

  Runtime& rt_;
  TextBuilder out_;
  bool ensure_ascii_ = false, sort_keys_ = false, pretty_ = false;
  Value indent_, item_separator_, key_separator_;
  int level_ = 0;
};

}  // namespace

Value ToJson(Runtime& rt, const Value& self, const Args& args) {
  return JsonWriter(rt, args).Run(self);
}

}  // namespace trireme::jinja
