// Methods of str.
#include <algorithm>

#include "runtime/text/jinja/args.h"
#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/unicode.h"

namespace trireme::jinja {
namespace {

constexpr auto kNone = std::string_view::npos;

bool IsDefault(const Value& value) { return value.is_missing() || value.is_none(); }

// A search window [start, stop) in code points, as bytes. Not valid when start lies beyond the end.
struct Window {
  size_t begin = 0, end = 0;
  bool valid = true;
};

Window MakeWindow(Runtime& rt, const Str& text, const Value& start, const Value& stop) {
  if (IsDefault(start) && IsDefault(stop)) return {0, text.bytes.size(), true};
  const auto size = static_cast<int64_t>(text.num_chars);
  const auto clamp = [&](const Value& value, int64_t otherwise) {
    int64_t index = IsDefault(value) ? otherwise : IntArg(rt, value, otherwise);
    if (index < 0) index = std::max<int64_t>(0, index < -size ? 0 : index + size);
    return index;
  };
  const int64_t first = clamp(start, 0);
  const int64_t last = std::min(size, clamp(stop, size));
  if (first > last) return {0, 0, false};
  rt.ChargeBytes(text.bytes.size());
  return {CharOffset(text.bytes, static_cast<size_t>(first)),
          CharOffset(text.bytes, static_cast<size_t>(last)), true};
}

constexpr std::string_view kSearch[] = {"sub", "start", "end"};

// Place in code points of the first (or last) `sub`; -1 when absent.
int64_t Search(Runtime& rt, const Value& self, const Args& args, bool last) {
  const auto [sub, start, stop] = Bind(rt, args, kSearch, 1);
  const std::string_view needle = StrArg(rt, sub).bytes;
  const Window window = MakeWindow(rt, self.str(), start, stop);
  if (!window.valid) return -1;
  const std::string_view text = self.str().bytes.substr(window.begin, window.end - window.begin);
  const size_t at = last ? FindLast(rt, text, needle) : Find(rt, text, needle);
  if (at == kNone) return -1;
  return static_cast<int64_t>(CountChars(self.str().bytes.substr(0, window.begin + at)));
}

Value FindMethodFn(Runtime& rt, const Value& self, const Args& args) {
  return Value::Int(Search(rt, self, args, false));
}
Value RFind(Runtime& rt, const Value& self, const Args& args) {
  return Value::Int(Search(rt, self, args, true));
}
Value Index(Runtime& rt, const Value& self, const Args& args) {
  const int64_t at = Search(rt, self, args, false);
  if (at < 0) rt.Fail("substring not found");
  return Value::Int(at);
}
Value RIndex(Runtime& rt, const Value& self, const Args& args) {
  const int64_t at = Search(rt, self, args, true);
  if (at < 0) rt.Fail("substring not found");
  return Value::Int(at);
}

Value Count(Runtime& rt, const Value& self, const Args& args) {
  const auto [sub, start, stop] = Bind(rt, args, kSearch, 1);
  const std::string_view needle = StrArg(rt, sub).bytes;
  const Window window = MakeWindow(rt, self.str(), start, stop);
  if (!window.valid) return Value::Int(0);
  const std::string_view text = self.str().bytes.substr(window.begin, window.end - window.begin);
  if (needle.empty()) return Value::Int(static_cast<int64_t>(CountChars(text)) + 1);
  int64_t count = 0;
  for (size_t at = Find(rt, text, needle); at != kNone;
       at = Find(rt, text, needle, at + needle.size())) {
    ++count;
  }
  return Value::Int(count);
}

bool StartsOrEnds(Runtime& rt, const Value& self, const Args& args, bool ends) {
  const auto [affix, start, stop] = Bind(rt, args, kSearch, 1);
  const Window window = MakeWindow(rt, self.str(), start, stop);
  const std::string_view text = self.str().bytes.substr(window.begin, window.end - window.begin);
  const auto matches = [&](const Value& candidate) {
    const std::string_view part = StrArg(rt, candidate).bytes;
    rt.ChargeBytes(part.size());
    if (!window.valid || part.size() > text.size()) return false;
    return text.substr(ends ? text.size() - part.size() : 0, part.size()) == part;
  };
  if (!affix.is(Type::kList) || affix.list().kind != ListKind::kTuple) return matches(affix);
  return std::any_of(affix.list().items.begin(), affix.list().items.end(), matches);
}

Value StartsWith(Runtime& rt, const Value& self, const Args& args) {
  return Value::Bool(StartsOrEnds(rt, self, args, false));
}
Value EndsWith(Runtime& rt, const Value& self, const Args& args) {
  return Value::Bool(StartsOrEnds(rt, self, args, true));
}

template <bool left, bool right>
Value StripMethod(Runtime& rt, const Value& self, const Args& args) {
  const auto [chars] = Bind(rt, args, {"chars"});
  return Strip(rt, self.str(), chars, left, right);
}

// Byte offset behind the run of characters from `pos` on that are (not) white space.
size_t SkipRun(std::string_view text, size_t pos, bool space) {
  for (size_t next = pos; pos < text.size(); pos = next) {
    if (IsSpace(NextChar(text, &next)) != space) break;
  }
  return pos;
}

// The same towards the start: the offset where the run that ends at `end` begins.
size_t SkipRunBack(std::string_view text, size_t end, bool space) {
  while (end > 0) {
    const size_t previous = PreviousChar(text, end);
    size_t next = previous;
    if (IsSpace(NextChar(text, &next)) != space) break;
    end = previous;
  }
  return end;
}

void SplitBySpace(Runtime& rt, const Str& text, int64_t max, Values* out) {
  size_t pos = SkipRun(text.bytes, 0, true);
  while (pos < text.bytes.size()) {
    const size_t end = max-- == 0 ? text.bytes.size() : SkipRun(text.bytes, pos, false);
    out->push_back(Substring(rt, text, pos, end));
    pos = SkipRun(text.bytes, end, true);
  }
}

void SplitBySpaceFromRight(Runtime& rt, const Str& text, int64_t max, Values* out) {
  size_t end = SkipRunBack(text.bytes, text.bytes.size(), true);
  while (end > 0) {
    const size_t begin = max-- == 0 ? 0 : SkipRunBack(text.bytes, end, false);
    out->push_back(Substring(rt, text, begin, end));
    end = SkipRunBack(text.bytes, begin, true);
  }
}

void SplitBySeparator(Runtime& rt, const Str& text, std::string_view separator, int64_t max,
                      bool from_right, Values* out) {
  if (separator.empty()) rt.Fail("empty separator");
  size_t begin = 0, end = text.bytes.size();
  while (max-- != 0) {
    const size_t at = from_right ? FindLast(rt, text.bytes.substr(0, end), separator)
                                 : Find(rt, text.bytes, separator, begin);
    if (at == kNone) break;
    if (from_right) {
      out->push_back(Substring(rt, text, at + separator.size(), end));
      end = at;
    } else {
      out->push_back(Substring(rt, text, begin, at));
      begin = at + separator.size();
    }
  }
  out->push_back(Substring(rt, text, begin, end));
}

template <bool from_right>
Value Split(Runtime& rt, const Value& self, const Args& args) {
  const auto [separator, maxsplit] = Bind(rt, args, {"sep", "maxsplit"});
  const int64_t max = IntArg(rt, maxsplit, -1);
  Values parts = rt.NewValues();
  rt.ChargeBytes(self.str().bytes.size());
  if (IsDefault(separator)) {
    const auto split = from_right ? SplitBySpaceFromRight : SplitBySpace;
    split(rt, self.str(), max < 0 ? -1 : max, &parts);
  } else {
    SplitBySeparator(rt, self.str(), StrArg(rt, separator).bytes, max < 0 ? -1 : max, from_right,
                     &parts);
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return rt.NewList(std::move(parts));
}

template <bool from_right>
Value Partition(Runtime& rt, const Value& self, const Args& args) {
  const auto [separator] = Bind(rt, args, {"sep"}, 1);
  const std::string_view needle = StrArg(rt, separator).bytes;
  if (needle.empty()) rt.Fail("empty separator");
  const Str& text = self.str();
  const size_t at = from_right ? FindLast(rt, text.bytes, needle) : Find(rt, text.bytes, needle);
  const size_t size = text.bytes.size();
  const size_t first = at != kNone ? at : from_right ? 0 : size;
  const size_t second = at != kNone ? at + needle.size() : first;
  Values parts = rt.NewValues();
  parts.push_back(Substring(rt, text, 0, first));
  parts.push_back(Substring(rt, text, first, second));
  parts.push_back(Substring(rt, text, second, size));
  return rt.NewList(std::move(parts), ListKind::kTuple);
}

Value SplitLinesMethod(Runtime& rt, const Value& self, const Args& args) {
  const auto [keepends] = Bind(rt, args, {"keepends"});
  return rt.NewList(SplitLines(rt, self.str(), BoolArg(keepends, false)));
}

Value Join(Runtime& rt, const Value& self, const Args& args) {
  const auto [iterable] = Bind(rt, args, {"iterable"}, 1);
  TextBuilder out(rt);
  bool first = true;
  for (const Value& item : Iterate(rt, iterable)) {
    if (!first) out.Append(self.str());
    first = false;
    if (!item.is_string()) rt.Fail("join expects strings");
    out.Append(item.str());
  }
  return out.Finish();
}

Value ReplaceMethod(Runtime& rt, const Value& self, const Args& args) {
  const auto [old, replacement, count] = Bind(rt, args, {"old", "new", "count"}, 2);
  return Replace(rt, self.str(), StrArg(rt, old), StrArg(rt, replacement), IntArg(rt, count, -1));
}

Value RemovePrefix(Runtime& rt, const Value& self, const Args& args) {
  const auto [prefix] = Bind(rt, args, {"prefix"}, 1);
  const Str& text = self.str();
  const std::string_view part = StrArg(rt, prefix).bytes;
  rt.ChargeBytes(part.size());
  if (text.bytes.substr(0, part.size()) != part) return self;
  return Substring(rt, text, part.size(), text.bytes.size());
}

Value RemoveSuffix(Runtime& rt, const Value& self, const Args& args) {
  const auto [suffix] = Bind(rt, args, {"suffix"}, 1);
  const Str& text = self.str();
  const std::string_view part = StrArg(rt, suffix).bytes;
  rt.ChargeBytes(part.size());
  if (part.size() > text.bytes.size()) return self;
  const size_t keep = text.bytes.size() - part.size();
  return text.bytes.substr(keep) == part ? Substring(rt, text, 0, keep) : self;
}

Value Title(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  bool in_word = false;
  return MapChars(rt, self.str(), [&](char32_t c, std::string* out) {
    in_word ? AppendLower(c, out) : AppendTitle(c, out);
    in_word = IsCased(c);
  });
}

Value SwapCase(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return MapChars(rt, self.str(), [](char32_t c, std::string* out) {
    IsUpper(c) ? AppendLower(c, out) : AppendUpper(c, out);
  });
}

enum class Justify { kLeft, kRight, kCenter };

template <Justify how>
Value JustifyMethod(Runtime& rt, const Value& self, const Args& args) {
  const auto [width_arg, fill_arg] = Bind(rt, args, {"width", "fillchar"}, 1);
  const std::string_view fill = fill_arg.is_missing() ? " " : StrArg(rt, fill_arg).bytes;
  if (CountChars(fill) != 1) rt.Fail("the fill character must be exactly one character long");
  const auto length = static_cast<int64_t>(self.str().num_chars);
  const int64_t width = IntArg(rt, width_arg, 0);
  if (width <= length) return self;
  const auto padding = static_cast<size_t>(width - length);
  // str.center puts the odd space to the left when the width is odd.
  const size_t left = how == Justify::kLeft    ? 0
                      : how == Justify::kRight ? padding
                                               : padding / 2 + (padding & width & 1);
  TextBuilder out(rt);
  out.AppendRepeated(fill, left);
  out.Append(self.str());
  out.AppendRepeated(fill, padding - left);
  return out.Finish();
}

Value ZFill(Runtime& rt, const Value& self, const Args& args) {
  const auto [width_arg] = Bind(rt, args, {"width"}, 1);
  const Str& text = self.str();
  const int64_t padding = IntArg(rt, width_arg, 0) - static_cast<int64_t>(text.num_chars);
  if (padding <= 0) return self;
  const size_t sign = !text.bytes.empty() && (text.bytes[0] == '-' || text.bytes[0] == '+');
  TextBuilder out(rt);
  out.AppendRange(text, 0, sign);
  out.AppendRepeated("0", static_cast<size_t>(padding));
  out.AppendRange(text, sign, text.bytes.size());
  return out.Finish();
}

// True when the text is not empty and `predicate` holds for every code point.
template <bool (*predicate)(char32_t)>
Value All(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  const std::string_view text = self.str().bytes;
  rt.ChargeBytes(text.size());
  for (size_t pos = 0; pos < text.size();) {
    if (!predicate(NextChar(text, &pos))) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

// Has cased characters, and all of them are upper (lower) case.
template <bool upper>
Value CaseIs(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  const std::string_view text = self.str().bytes;
  rt.ChargeBytes(text.size());
  bool any = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextChar(text, &pos);
    if (!IsCased(c)) continue;
    if (upper ? !IsUpper(c) : !IsLower(c)) return Value::Bool(false);
    any = true;
  }
  return Value::Bool(any);
}

Value IsTitleMethod(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  const std::string_view text = self.str().bytes;
  rt.ChargeBytes(text.size());
  bool any = false, in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = NextChar(text, &pos);
    const bool starts = IsUpper(c) || IsTitle(c);
    if ((starts && in_word) || (IsLower(c) && !in_word)) return Value::Bool(false);
    in_word = IsCased(c);
    any |= in_word;
  }
  return Value::Bool(any);
}

Value IsAscii(Runtime& rt, const Value& self, const Args& args) {
  BindNothing(rt, args);
  return Value::Bool(self.str().ascii());
}

Value Format(Runtime& rt, const Value& self, const Args& args) {
  return FormatBraces(rt, self.str(), args);
}

constexpr Builtin kStringMethods[] = {
    {"capitalize", Capitalize},
    {"casefold", Lower},
    {"center", JustifyMethod<Justify::kCenter>},
    {"count", Count},
    {"endswith", EndsWith},
    {"find", FindMethodFn},
    {"format", Format},
    {"index", Index},
    {"isalnum", All<IsAlnum>},
    {"isalpha", All<IsAlpha>},
    {"isascii", IsAscii},
    {"isdecimal", All<IsDecimal>},
    {"isdigit", All<IsDigit>},
    {"islower", CaseIs<false>},
    {"isnumeric", All<IsNumeric>},
    {"isspace", All<IsSpace>},
    {"istitle", IsTitleMethod},
    {"isupper", CaseIs<true>},
    {"join", Join},
    {"ljust", JustifyMethod<Justify::kLeft>},
    {"lower", Lower},
    {"lstrip", StripMethod<true, false>},
    {"partition", Partition<false>},
    {"removeprefix", RemovePrefix},
    {"removesuffix", RemoveSuffix},
    {"replace", ReplaceMethod},
    {"rfind", RFind},
    {"rindex", RIndex},
    {"rjust", JustifyMethod<Justify::kRight>},
    {"rpartition", Partition<true>},
    {"rsplit", Split<true>},
    {"rstrip", StripMethod<false, true>},
    {"split", Split<false>},
    {"splitlines", SplitLinesMethod},
    {"startswith", StartsWith},
    {"strip", StripMethod<true, true>},
    {"swapcase", SwapCase},
    {"title", Title},
    {"upper", Upper},
    {"zfill", ZFill},
};

}  // namespace

Value Strip(Runtime& rt, const Str& text, const Value& chars, bool left, bool right) {
  rt.ChargeBytes(text.bytes.size());
  size_t begin = 0, end = text.bytes.size();
  if (IsDefault(chars)) {
    TrimSpace(text.bytes, left, right, &begin, &end);
    return Substring(rt, text, begin, end);
  }
  const std::string_view set = StrArg(rt, chars).bytes;
  const auto contains = [&](std::string_view character) {
    rt.ChargeBytes(set.size());
    return set.find(character) != kNone;
  };
  while (left && begin < end) {
    size_t next = begin;
    NextChar(text.bytes, &next);
    if (!contains(text.bytes.substr(begin, next - begin))) break;
    begin = next;
  }
  while (right && end > begin) {
    const size_t previous = PreviousChar(text.bytes, end);
    if (!contains(text.bytes.substr(previous, end - previous))) break;
    end = previous;
  }
  return Substring(rt, text, begin, end);
}

Values SplitLines(Runtime& rt, const Str& text, bool keep_ends) {
  Values lines = rt.NewValues();
  size_t begin = 0;
  rt.ChargeBytes(text.bytes.size());
  for (size_t pos = 0; pos < text.bytes.size();) {
    const size_t at = pos;
    if (!IsLineBreak(NextChar(text.bytes, &pos))) continue;
    if (text.bytes[at] == '\r' && pos < text.bytes.size() && text.bytes[pos] == '\n') ++pos;
    lines.push_back(Substring(rt, text, begin, keep_ends ? pos : at));
    begin = pos;
  }
  if (begin < text.bytes.size()) lines.push_back(Substring(rt, text, begin, text.bytes.size()));
  return lines;
}

const Builtin* FindStringMethod(std::string_view name) { return FindIn(kStringMethods, name); }

}  // namespace trireme::jinja
