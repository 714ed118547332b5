// Filters on text.
#include <algorithm>

#include "runtime/text/jinja/args.h"
#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {

// Filters take any value and work on its str(); methods have a string already.
Value Upper(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return MapChars(rt, ToStr(rt, self).str(), AppendUpper);
}

Value Lower(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return MapChars(rt, ToStr(rt, self).str(), AppendLower);
}

Value Capitalize(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  bool first = true;
  return MapChars(rt, ToStr(rt, self).str(), [&](char32_t c, std::string* out) {
    first ? AppendTitle(c, out) : AppendLower(c, out);
    first = false;
  });
}

namespace {

Value TitleFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  bool word_begins = true;  // unlike str.title, "it's" stays one word
  return MapChars(rt, ToStr(rt, self).str(), [&](char32_t c, std::string* out) {
    word_begins ? AppendUpper(c, out) : AppendLower(c, out);
    word_begins = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  });
}

Value TrimFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [chars] = Bind(rt, args, {"chars"});
  return Strip(rt, ToStr(rt, self).str(), chars, true, true);
}

Value ReplaceFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [old, replacement, count] = Bind(rt, args, {"old", "new", "count"}, 2);
  return Replace(rt, ToStr(rt, self).str(), ToStr(rt, old).str(), ToStr(rt, replacement).str(),
                 count.is_none() ? -1 : IntArg(rt, count, -1));
}

Value StringFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return ToStr(rt, self);
}

Value EscapeFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Escape(rt, ToStr(rt, self));
}

Value ForceEscape(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  Str* plain = rt.heap().New<Str>(ToStr(rt, self).str());
  plain->markup = false;
  return Escape(rt, Value::String(plain));
}

Value SafeFilter(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  Str* marked = rt.heap().New<Str>(ToStr(rt, self).str());
  marked->markup = true;
  return Value::String(marked);
}

Value FormatFilter(Runtime& rt, const Value& self, const Args& args) {
  const Value text = ToStr(rt, self);
  if (!args.positional.empty() && !args.named.empty()) {
    rt.Fail("can't handle positional and keyword arguments at the same time");
  }
  if (!args.named.empty()) {
    Dict* values = rt.NewDict();
    for (const auto& [name, value] : args.named) values->Set(Value::String(name), value);
    return FormatPercent(rt, text.str(), Value::Of(values));
  }
  Values values = rt.NewValues();
  values.assign(args.positional.begin(), args.positional.end());
  return FormatPercent(rt, text.str(), rt.NewList(std::move(values), ListKind::kTuple));
}

Value IndentFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [width, first_arg, blank_arg] = Bind(rt, args, {"width", "first", "blank"});
  const Value indention = width.is_string()
                              ? width
                              : Repeat(rt, rt.NewString(" ").str(), IntArg(rt, width, 4));
  const bool first = BoolArg(first_arg, false), blank = BoolArg(blank_arg, false);
  TextBuilder terminated(rt);  // a trailing newline begins one more line
  terminated.Append(StrArg(rt, self));
  terminated.Append("\n");
  const Values lines = SplitLines(rt, terminated.Finish().str(), false);
  TextBuilder out(rt);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.Append("\n");
    const bool indent = i == 0 ? first : blank || !lines[i].str().bytes.empty();
    if (indent) out.Append(indention.str());
    out.Append(lines[i].str());
  }
  return out.Finish(self.str().markup);
}

Value TruncateFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [length_arg, killwords, end_arg, leeway_arg] =
      Bind(rt, args, {"length", "killwords", "end", "leeway"});
  const int64_t length = IntArg(rt, length_arg, 255);
  const Value end = end_arg.is_missing() ? rt.NewString("...") : end_arg;
  const int64_t leeway = leeway_arg.is_none() ? 5 : IntArg(rt, leeway_arg, 5);
  const Str& text = StrArg(rt, self);
  const auto end_chars = static_cast<int64_t>(StrArg(rt, end).num_chars);
  if (length < end_chars || leeway < 0) rt.Fail("length is shorter than the end marker");
  const auto chars = static_cast<int64_t>(text.num_chars);
  if (chars - length <= leeway) return self;
  const Value cut = CharRange(rt, text, 0, static_cast<size_t>(length - end_chars));
  const size_t space = BoolArg(killwords, false) ? std::string_view::npos
                                                 : cut.str().bytes.rfind(' ');
  const size_t keep = std::min(space, cut.str().bytes.size());
  return Concat(rt, Substring(rt, cut.str(), 0, keep).str(), end.str());
}

Value CenterFilter(Runtime& rt, const Value& self, const Args& args) {
  const auto [width] = Bind(rt, args, {"width"});
  Args center;
  center.positional.push_back(width.is_missing() ? Value::Int(80) : width);
  return FindStringMethod("center")->fn(rt, ToStr(rt, self), center);
}

Value WordCount(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  const Value text = ToStr(rt, self);
  rt.ChargeBytes(text.str().bytes.size());
  int64_t count = 0;
  bool in_word = false;
  for (size_t pos = 0; pos < text.str().bytes.size();) {
    const bool word = IsWord(NextChar(text.str().bytes, &pos));
    count += word && !in_word;
    in_word = word;
  }
  return Value::Int(count);
}

Value UrlEncode(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return MapChars(rt, ToStr(rt, self).str(), [](char32_t c, std::string* out) {
    const bool plain = c < 0x80 && (IsAlnum(c) || std::string_view("_.-~/").find(static_cast<char>(
                                                      c)) != std::string_view::npos);
    if (plain) return AppendChar(c, out);
    std::string bytes;
    AppendChar(c, &bytes);
    for (const char byte : bytes) {
      out->push_back('%');
      out->push_back("0123456789ABCDEF"[static_cast<unsigned char>(byte) >> 4]);
      out->push_back("0123456789ABCDEF"[byte & 15]);
    }
  });
}

constexpr Builtin kFilters[] = {
    {"capitalize", Capitalize},     {"center", CenterFilter}, {"e", EscapeFilter},
    {"escape", EscapeFilter},       {"forceescape", ForceEscape},
    {"format", FormatFilter},       {"indent", IndentFilter}, {"lower", Lower},
    {"replace", ReplaceFilter},     {"safe", SafeFilter},     {"string", StringFilter},
    {"title", TitleFilter},         {"trim", TrimFilter},     {"truncate", TruncateFilter},
    {"upper", Upper},               {"urlencode", UrlEncode}, {"wordcount", WordCount},
};

}  // namespace

const Builtin* FindTextFilter(std::string_view name) { return FindIn(kFilters, name); }

}  // namespace trireme::jinja
