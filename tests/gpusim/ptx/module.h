// A PTX module as parsed: names resolved, nothing interpreted. PTX ISA 9.0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::gpusim::ptx {

// Fundamental types (PTX ISA, "Types"). Packed ones (f16x2 ...) appear in opcodes only.
enum class Type : uint8_t {
  kNone,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBf16,
  kBf16x2,
  kTf32,
  kF32,
  kF64,
  kPred
};

int SizeOf(Type type);  // bytes; a predicate's is 4 (the lanes' bits of one warp)
// "f32" without the dot; kNone when it names no type.
Type TypeNamed(std::string_view name);

enum class Space : uint8_t { kGlobal, kConst, kShared, kLocal, kParam };

// Where in the source an instruction came from.
struct SourceLine {
  uint16_t file = 0;  // of Module::files; 0: not known
  uint32_t line = 0;
};

struct Variable {
  std::string name;
  Space space = Space::kGlobal;
  Type type = Type::kB8;
  uint32_t alignment = 1;
  uint64_t size = 0;  // bytes; 0: `extern .shared x[]`, its size comes with the launch
  bool is_extern = false;
  std::string initial;  // its first bytes; the rest is zero
  struct Pointer {      // an address within the initial value
    uint64_t offset;
    std::string symbol;
    int64_t addend;
  };
  std::vector<Pointer> pointers;
};

struct Register {
  std::string name;
  Type type;
};

struct Operand {
  enum class Kind : uint8_t {
    kRegister,   // reg
    kImmediate,  // bits
    kSpecial,    // name: "%tid.x"
    kSymbol,     // name (+ bits): a variable or a function
    kLabel,      // target, an index into Function::instructions
    kAddress,    // [items[0] + bits], further items: tensor coordinates
    kVector,     // {items}
    kSink,       // _
    kTuple,      // (items): arguments of a call
  };
  Kind kind = Kind::kSink;
  bool negated = false;   // !p
  bool is_float = false;  // an immediate written 0f or 0d, or with a decimal point
  int reg = -1;
  int second = -1;    // register q of p|q; -1: none
  uint64_t bits = 0;  // doubles as their bits, floats as the bits of a float
  uint32_t target = 0;
  std::string name;
  std::vector<Operand> items;
};

struct Instruction {
  int predicate = -1;  // register
  bool predicate_negated = false;
  std::string opcode;                   // "ld.global.v4.f32"
  std::vector<std::string_view> parts;  // of opcode, at the dots
  std::vector<Operand> operands;
  SourceLine source;
  uint32_t ptx_line = 0;

  bool Has(std::string_view part) const;
};

struct Function {
  std::string name;
  bool is_entry = false;
  bool is_extern = false;         // declared only
  std::vector<Variable> params;   // offsets follow from size and alignment, in order
  std::vector<Variable> returns;  // of a .func
  std::vector<Register> registers;
  std::vector<Variable> variables;  // .shared, .local and call-sequence .param of the body
  std::vector<Instruction> instructions;
  int max_threads = 0;  // .maxntid, .reqntid: product; 0: not given
  int required_cluster[3] = {0, 0, 0};
};

struct Module {
  std::string target;              // "sm_90a"
  std::vector<std::string> files;  // by the number of .file; [0] is unused
  std::vector<Variable> variables;
  std::vector<Function> functions;
};

}  // namespace trireme::gpusim::ptx
