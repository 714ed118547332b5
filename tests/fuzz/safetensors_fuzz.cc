// A safetensors file: refused by its name, or every tensor lies inside it.
#include "runtime/weights/checkpoint.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tensors.h"

namespace trireme::fuzz {

void OneInput(std::string_view data) {
  const InputFile file(data);
  const auto checkpoint = OpenSafetensors(file.path());
  if (!checkpoint.ok()) return CheckFileError(checkpoint.status(), file.path());
  CheckTensors(**checkpoint, data.size());
}

}  // namespace trireme::fuzz
