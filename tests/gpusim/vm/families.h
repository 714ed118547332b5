// Opcodes that exist for integers and for floats are decoded by the float family, which hands the
// integer ones over.
#pragma once

#include "tests/gpusim/vm/decoder.h"

namespace trireme::gpusim {

absl::Status DecodeIntegerAddSub(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeIntegerMul(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeIntegerDiv(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeIntegerMinMax(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
// add.cc, sub.cc, mad.cc and those that take the flag.
absl::Status DecodeCarry(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
absl::Status DecodeIntegerNegAbs(Decoder& decoder, const ptx::Instruction& instruction, Op* op);

// setp, which the move family lists.
absl::Status DecodeSetPredicate(Decoder& decoder, const ptx::Instruction& instruction, Op* op);

// ldmatrix and its kin are in matrix.cc, the multiplication itself in mma.cc.
absl::Status DecodeMma(Decoder& decoder, const ptx::Instruction& instruction, Op* op);
// cvt from and to pairs of 8-bit floats.
absl::Status DecodeConvertFp8(Decoder& decoder, const ptx::Instruction& instruction, Op* op);

// The decoders of `barrier` and `cp` hand over what is Hopper's.
absl::Status DecodeClusterBarrier(Decoder& decoder, const ptx::Instruction& instruction, Op* op);

}  // namespace trireme::gpusim
