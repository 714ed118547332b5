// A GGUF file: refused by its name, or every tensor lies inside it and all of it can be described.
#include <map>

#include "runtime/model/decoder_spec.h"
#include "runtime/text/utf8.h"
#include "runtime/weights/gguf.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tensors.h"

namespace trireme::fuzz {

void OneInput(std::string_view data) {
  const InputFile file(data);
  const auto gguf = GgufFile::Open(file.path());
  if (!gguf.ok()) return CheckFileError(gguf.status(), file.path());
  CheckTensors(**gguf, data.size());
  for (const auto& [key, value] : (*gguf)->Describe()) {
    FUZZ_CHECK(IsValidUtf8(key) && IsValidUtf8(value), value);
    FUZZ_CHECK(value.size() < 1024, value);
    (*gguf)->Int(key);
    (*gguf)->Float(key);
    (*gguf)->String(key);
    (*gguf)->Strings(key);
    (*gguf)->Ints(key);
    (*gguf)->Floats(key);
  }
  if (const auto spec = DecoderSpecFromGguf(**gguf); !spec.ok()) CheckError(spec.status());
}

}  // namespace trireme::fuzz
