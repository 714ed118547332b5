#include "tests/gpusim/vm/wgmma_form.h"

#include <map>
#include <string>
#include <vector>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

using ptx::Instruction;
using Element = WgmmaForm::Element;
using Sum = WgmmaForm::Sum;

bool ElementNamed(std::string_view name, Element* element) {
  static const std::map<std::string_view, Element> kNames = {
      {"bf16", Element::kBf16}, {"f16", Element::kF16},   {"tf32", Element::kTf32},
      {"e4m3", Element::kE4m3}, {"e5m2", Element::kE5m2}, {"s8", Element::kS8},
      {"u8", Element::kU8}};
  const auto it = kNames.find(name);
  if (it == kNames.end()) return false;
  *element = it->second;
  return true;
}

// "m64n128k16": n; 0: another shape.
int WidthOf(std::string_view shape, int k) {
  const std::string tail = StrCat("k", k);
  if (!shape.starts_with("m64n") || !shape.ends_with(tail)) return 0;
  int n = 0;
  for (const char c : shape.substr(4, shape.size() - 4 - tail.size())) {
    if (c < '0' || c > '9') return 0;
    n = n * 10 + (c - '0');
  }
  return n % 8 == 0 && n <= 256 ? n : 0;
}

}  // namespace

// wgmma.mma_async.sync.aligned.shape.sum.a.b {.satfinite}
bool ParseWgmmaForm(const Instruction& instruction, WgmmaForm* form) {
  std::vector<std::string_view> parts(instruction.parts.begin() + 2, instruction.parts.end());
  std::erase_if(parts, [](std::string_view p) {
    return p == "sync" || p == "aligned" || p == "sp" || p == "satfinite";
  });
  if (parts.size() != 4 || instruction.Has("sp")) return false;
  form->saturates = instruction.Has("satfinite");
  if (!ElementNamed(parts[2], &form->a) || !ElementNamed(parts[3], &form->b)) return false;
  form->sum = parts[1] == "f16" ? Sum::kF16 : parts[1] == "s32" ? Sum::kS32 : Sum::kF32;
  form->n = WidthOf(parts[0], form->k());
  const bool integers = form->a == Element::kS8 || form->a == Element::kU8;
  return form->n != 0 && integers == (form->sum == Sum::kS32) &&
         (parts[1] == "f16" || parts[1] == "s32" || parts[1] == "f32");
}

}  // namespace trireme::gpusim
