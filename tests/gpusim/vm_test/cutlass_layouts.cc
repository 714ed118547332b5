#include "tests/gpusim/vm_test/cutlass_layouts.h"

#include <fstream>
#include <sstream>

namespace trireme::gpusim {
namespace {

CutlassLayouts Read() {
  CutlassLayouts layouts;
  std::ifstream file(TRIREME_SOURCE_DIR "/tests/gpusim/vm_test/cutlass_layouts.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind;
    const auto numbers = [&](auto* to) {
      for (int at; words >> at;) to->push_back(at);
    };
    if (kind == "fragment") {
      words >> name;
      numbers(&layouts.fragments[name]);
    } else if (kind == "tensor") {
      words >> name;
      words >> layouts.tensor_loads[name].registers;
      numbers(&layouts.tensor_loads[name].cells);
    } else if (kind == "sums") {
      int m = 0;
      words >> m;
      numbers(&layouts.sums[m]);
    } else if (kind == "instruction") {
      words >> name;
      words >> layouts.instructions[name];
    } else if (kind == "operand" || kind == "umma") {  // the rest is semantics/matrix_test.cc's
      CutlassOperand operand;
      words >> operand.element_bytes >> operand.mn_major >> operand.rows >> operand.descriptor;
      for (uint32_t at; words >> at;) operand.chunks.push_back(at);
      (kind == "umma" ? layouts.tensor_operands : layouts.operands).push_back(std::move(operand));
    }
  }
  return layouts;
}

}  // namespace

const CutlassLayouts& Cutlass() {
  static const CutlassLayouts kLayouts = Read();
  return kLayouts;
}

}  // namespace trireme::gpusim
