// Which control tokens end a turn. Model files name one eos; chat models stop at several.
#pragma once

#include "runtime/text/tokenizer.h"

namespace trireme {

// Adds to spec->eos_ids: spec->eos, and every special added token whose text is a known end of turn
// or text.
void CollectEndTokens(TokenizerSpec* spec);

}  // namespace trireme
