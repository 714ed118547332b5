#include "runtime/text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "runtime/text/utf8.h"

namespace trireme {
namespace {

constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
// No canonical decomposition is longer than four code points (Unicode stability policy).
constexpr int kMaxDecomposition = 8;

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// The canonical ordering algorithm: marks of a run sort by combining class, stably.
void ReorderMarks(std::vector<utf8proc_int32_t>& points) {
  for (size_t i = 0; i < points.size();) {
    if (CombiningClass(points[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < points.size() && CombiningClass(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + i, points.begin() + end,
                     [](utf8proc_int32_t a, utf8proc_int32_t b) {
                       return CombiningClass(a) < CombiningClass(b);
                     });
    i = end;
  }
}

}  // namespace

bool IsTriviallyNfc(std::string_view text) {
  // U+0300 is encoded CC 80; every code point from there on has a lead byte of at least CC.
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) >= 0xCC; });
}

std::string ToNfc(std::string_view text) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(NextCodePoint(text, pos));
    if (c < 0xC0) {
      points.push_back(c);
      continue;
    }
    utf8proc_int32_t parts[kMaxDecomposition];
    int last_boundary_class = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(c, parts, kMaxDecomposition, kOptions, &last_boundary_class);
    points.insert(points.end(), parts,
                  parts + std::clamp<utf8proc_ssize_t>(n, 0, kMaxDecomposition));
  }
  ReorderMarks(points);
  const utf8proc_ssize_t size = utf8proc_normalize_utf32(
      points.data(), static_cast<utf8proc_ssize_t>(points.size()), kOptions);
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < size; ++i) AppendUtf8(static_cast<char32_t>(points[i]), &out);
  return out;
}

}  // namespace trireme
