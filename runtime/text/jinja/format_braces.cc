// str.format.
#include <algorithm>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/format.h"
#include "runtime/text/jinja/operators.h"

namespace trireme::jinja {
namespace {

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, const Args& args) : rt_(rt), args_(args) {}

  Value Run(const Str& format, int depth) {
    if (depth > 2) rt_.Fail("max string recursion exceeded");
    TextBuilder out(rt_);
    const std::string_view text = format.bytes;
    size_t done = 0;
    while (done < text.size()) {
      const size_t brace = std::min(text.find_first_of("{}", done), text.size());
      out.AppendRange(format, done, brace);
      if (brace == text.size()) break;
      if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
        out.AppendRange(format, brace, brace + 1);
        done = brace + 2;
        continue;
      }
      if (text[brace] == '}') rt_.Fail("single '}' encountered in format string");
      const size_t end = FieldEnd(text, brace + 1);
      out.Append(Field(format, brace + 1, end, depth).str());
      done = end + 1;
    }
    return out.Finish(format.markup);
  }

 private:
  size_t FieldEnd(std::string_view text, size_t pos) const {
    for (int nested = 1; pos < text.size(); ++pos) {
      nested += text[pos] == '{' ? 1 : text[pos] == '}' ? -1 : 0;
      if (nested == 0) return pos;
    }
    rt_.Fail("expected '}' before end of string");
  }

  Value Field(const Str& format, size_t begin, size_t end, int depth) {
    const std::string_view field = format.bytes.substr(begin, end - begin);
    const size_t colon = std::min(field.find(':'), field.size());
    const size_t bang = std::min(field.find('!'), colon);
    Value value = Lookup(field.substr(0, bang));
    if (bang < colon) {
      const std::string_view conversion = field.substr(bang + 1, colon - bang - 1);
      if (conversion == "r") {
        TextBuilder repr(rt_);
        AppendRepr(rt_, value, &repr);
        value = repr.Finish();
      } else if (conversion == "s") {
        value = ToStr(rt_, value);
      } else {
        rt_.Fail("unknown conversion in format string");
      }
    }
    if (colon == field.size()) return FormatSpec(rt_, value, "");
    const Value spec = Run(Substring(rt_, format, begin + colon + 1, end).str(), depth + 1);
    return FormatSpec(rt_, value, spec.str().bytes);
  }

  Value Lookup(std::string_view path) {
    const size_t first = std::min(path.find_first_of(".["), path.size());
    Value value = Argument(path.substr(0, first));
    for (size_t pos = first; pos < path.size();) {
      if (path[pos] == '.') {
        const size_t end = std::min(path.find_first_of(".[", pos + 1), path.size());
        value = GetAttribute(rt_, value, rt_.NewString(path.substr(pos + 1, end - pos - 1)).str());
        pos = end;
      } else {
        const size_t end = path.find(']', pos);
        if (end == std::string_view::npos) rt_.Fail("missing ']' in format string");
        const std::string_view key = path.substr(pos + 1, end - pos - 1);
        const int64_t index = Index(key);
        value = GetItem(rt_, value, index >= 0 ? Value::Int(index) : rt_.NewString(key));
        pos = end + 1;
      }
    }
    return value;
  }

  // -1 for names.
  static int64_t Index(std::string_view text) {
    if (text.empty() || text.size() > 9) return -1;
    int64_t index = 0;
    for (char c : text) {
      if (c < '0' || c > '9') return -1;
      index = index * 10 + (c - '0');
    }
    return index;
  }

  Value Argument(std::string_view name) {
    const int64_t index = name.empty() ? next_++ : Index(name);
    if (index >= 0) {
      if (static_cast<size_t>(index) >= args_.positional.size()) {
        rt_.Fail("replacement index out of range for positional arguments");
      }
      return args_.positional[static_cast<size_t>(index)];
    }
    for (const auto& [key, value] : args_.named) {
      if (key->bytes == name) return value;
    }
    rt_.Fail("format string names an argument that was not passed");
  }

  Runtime& rt_;
  const Args& args_;
  int64_t next_ = 0;
};

}  // namespace

Value FormatBraces(Runtime& rt, const Str& format, const Args& args) {
  return BraceFormatter(rt, args).Run(format, 0);
}

}  // namespace trireme::jinja
