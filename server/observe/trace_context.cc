#include "server/observe/trace_context.h"

#include <openssl/rand.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr size_t kMaxMembers = 32;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Lower-case hexadecimal only (section 3.2.2).
int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Fills `out` from 2 * out.size() digits.
template <size_t N>
bool ParseHex(std::string_view digits, std::array<uint8_t, N>* out) {
  if (digits.size() != 2 * N) return false;
  for (size_t i = 0; i < N; ++i) {
    const int high = HexDigit(digits[2 * i]), low = HexDigit(digits[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*out)[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

// version "-" trace-id "-" parent-id "-" flags; versions after 00 may go on behind another "-".
std::optional<TraceContext> ParseTraceparent(std::string_view text) {
  constexpr size_t kLength = 55;
  if (text.size() < kLength || text[2] != '-' || text[35] != '-' || text[52] != '-') {
    return std::nullopt;
  }
  std::array<uint8_t, 1> version, flags;
  TraceContext context;
  if (!ParseHex(text.substr(0, 2), &version) || !ParseHex(text.substr(3, 32), &context.trace_id) ||
      !ParseHex(text.substr(36, 16), &context.parent_id) || !ParseHex(text.substr(53, 2), &flags)) {
    return std::nullopt;
  }
  if (version[0] == 0xff || (version[0] == 0 && text.size() != kLength) ||
      (text.size() > kLength && text[kLength] != '-')) {
    return std::nullopt;
  }
  if (!context.has_id() || !context.has_parent()) {
    return std::nullopt;
  }
  context.sampled = (flags[0] & 1) != 0;
  return context;
}

bool IsKeyChar(char c) {
  return IsLower(c) || IsDigit(c) || c == '_' || c == '-' || c == '*' || c == '/';
}

// simple-key, or tenant-id "@" system-id (section 3.3.1.3.1).
bool IsKey(std::string_view key) {
  if (key.empty()) return false;
  const size_t at = key.find('@');
  const auto is_word = [](std::string_view word) {
    return std::all_of(word.begin(), word.end(), IsKeyChar);
  };
  if (at == std::string_view::npos) return key.size() <= 256 && IsLower(key[0]) && is_word(key);
  const std::string_view tenant = key.substr(0, at), system = key.substr(at + 1);
  return !tenant.empty() && tenant.size() <= 241 && (IsLower(tenant[0]) || IsDigit(tenant[0])) &&
         is_word(tenant) && !system.empty() && system.size() <= 14 && IsLower(system[0]) &&
         is_word(system);
}

// 0*255(chr) nblk-chr: visible ASCII and inner blanks, without "," and "=".
bool IsValue(std::string_view value) {
  if (value.empty() || value.size() > 256 || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= ' ' && c <= '~' && c != ',' && c != '='; });
}

// Empty when it is malformed.
std::string ParseTracestate(const std::vector<std::string_view>& lists) {
  std::string out;
  std::vector<std::string_view> keys;
  for (std::string_view list : lists) {
    for (bool more = true; more;) {
      const size_t comma = list.find(',');
      const std::string_view member =
          FromAbsl(absl::StripAsciiWhitespace(ToAbsl(list.substr(0, comma))));
      more = comma != std::string_view::npos;
      if (more) list.remove_prefix(comma + 1);
      if (member.empty()) continue;
      const size_t equals = member.find('=');
      if (equals == std::string_view::npos) return "";
      const std::string_view key = member.substr(0, equals);
      if (!IsKey(key) || !IsValue(member.substr(equals + 1))) return "";
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) return "";
      keys.push_back(key);
      if (!out.empty()) out += ',';
      out += member;
      if (keys.size() > kMaxMembers || out.size() > kMaxTracestateBytes) return "";
    }
  }
  return out;
}

template <size_t N>
void FillRandom(std::array<uint8_t, N>* out) {
  do {
    TRIREME_CHECK(RAND_bytes(out->data(), static_cast<int>(N)) == 1);
  } while (*out == std::array<uint8_t, N>{});  // all zero means "none"
}

}  // namespace

std::optional<TraceContext> ParseTraceContext(const std::vector<std::string_view>& traceparents,
                                              const std::vector<std::string_view>& tracestates) {
  if (traceparents.size() != 1) return std::nullopt;
  std::optional<TraceContext> context = ParseTraceparent(traceparents.front());
  if (context) context->tracestate = ParseTracestate(tracestates);
  return context;
}

TraceContext NewTrace(double ratio) {
  TraceContext context;
  FillRandom(&context.trace_id);
  context.sampled = SampledByRatio(context.trace_id, ratio);
  return context;
}

bool SampledByRatio(const std::array<uint8_t, 16>& trace_id, double ratio) {
  uint64_t random = 0;
  for (size_t i = 9; i < 16; ++i) random = random << 8 | trace_id[i];
  return static_cast<double>(random) < std::ldexp(ratio, 56);
}

std::array<uint8_t, 8> NewSpanId() {
  std::array<uint8_t, 8> id;
  FillRandom(&id);
  return id;
}

}  // namespace trireme
