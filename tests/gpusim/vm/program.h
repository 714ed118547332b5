// A kernel decoded for execution: PTX once turned into compact operations, so that the interpreter
// neither compares strings nor looks names up.
//
// Every value of a warp lies in its register file, 32 lanes side by side: the PTX registers, one
// place for each immediate and each special register in use. An operand is therefore an offset,
// whatever it was in the text. A predicate is one word, a bit a lane.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/gpusim/ptx/module.h"
#include "tests/gpusim/vm/lanes.h"

namespace trireme::gpusim {

class Warp;
struct Op;

// What becomes of the warp after an operation.
enum class Flow : uint8_t {
  kNext,     // on to the next operation
  kChanged,  // the operation has set the lanes' program counters itself
  kRetry,    // it could not run yet: the lanes wait in front of it
};

using Execute = Flow (*)(Warp& warp, const Op& op, LaneMask active);

// A value's place in the register file.
struct Slot {
  uint32_t offset = 0;  // bytes
  uint32_t index = 0;   // of its definedness word
};

// For the profile.
enum class OpClass : uint8_t {
  kInteger,
  kFloat,
  kConvert,
  kMove,
  kPredicate,
  kMemory,
  kShared,
  kControl,
  kBarrier,
  kShuffle,
  kMatrix,
  kAsync,
  kAtomic,
  kCount
};
std::string_view NameOf(OpClass op_class);

struct Op {
  Execute run = nullptr;
  Execute unwatched = nullptr;  // of an operation on registers of wgmma: what `run` checks for
  Slot guard;                   // a predicate; see guarded
  bool guarded = false, guard_negated = false;
  bool aligned = false;  // .aligned: undefined unless the whole warp takes part
  OpClass op_class = OpClass::kMove;
  bool matrix = false;  // of the matrix units, ldmatrix and its like: timed apart
  uint8_t width = 0;    // bytes of an element in memory
  uint8_t count = 1;    // elements of a vector access
  uint16_t num_dst = 0, num_src = 0;
  Slot* dst = nullptr;  // of the program's arena
  Slot* src = nullptr;
  int64_t offset = 0;           // of an address
  bool narrow_address = false;  // its base is a 32-bit register
  uint64_t imm = 0;             // the operation's own constant
  uint32_t target = 0;          // of a branch
  const ptx::Instruction* text = nullptr;
};

// Registers that the hardware sets.
enum class Special : uint8_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kSmid,
  kNsmid,
  kLanemaskEq,
  kLanemaskLt,
  kLanemaskLe,
  kLanemaskGt,
  kLanemaskGe,
  kClusterCtaidX,
  kClusterCtaidY,
  kClusterCtaidZ,
  kClusterNctaidX,
  kClusterNctaidY,
  kClusterNctaidZ,
  kClusterCtarank,
  kClusterNctarank,
  kClusteridX,
  kClusteridY,
  kClusteridZ,
  kNclusteridX,
  kNclusteridY,
  kNclusteridZ,
  kIsExplicitCluster,
  kDynamicSmemSize,
  kTotalSmemSize,
  kGridid,
  kEnvreg1,  // the upper half of a cooperative launch's workspace
  kEnvreg2,  // the lower
  kCount
};

class Program {
 public:
  std::string name;
  std::vector<Op> ops;
  uint32_t file_bytes = 0;        // of a warp's register file
  uint32_t num_slots = 0;         // definedness words
  std::vector<char> image;        // the file when a warp starts: immediates in their places
  std::vector<uint32_t> defined;  // and which slots hold something then
  struct SpecialSlot {
    Special special;
    Slot slot;
  };
  std::vector<SpecialSlot> specials;

  uint32_t param_bytes = 0;
  std::vector<uint32_t> param_offsets, param_sizes;
  uint32_t static_shared_bytes = 0;
  uint32_t shared_alignment = 16;
  uint32_t local_bytes = 0;  // of one lane
  int max_threads = 1024;
  std::array<int, 3> cluster = {0, 0, 0};
  std::shared_ptr<const ptx::Module> module;  // keeps `text` alive
  std::vector<std::unique_ptr<Slot[]>> slot_arena;
};

// Addresses of a loaded module's variables.
using SymbolTable = std::map<std::string, uint64_t, std::less<>>;

// Decodes one kernel. UNIMPLEMENTED names instruction, kernel and line of what is not known.
absl::StatusOr<std::unique_ptr<Program>> Decode(std::shared_ptr<const ptx::Module> module,
                                                const ptx::Function& kernel,
                                                const SymbolTable& symbols);

}  // namespace trireme::gpusim
