// What a token had for a probability: as samplers find it, steps carry it and doors tell it.
#pragma once

#include "runtime/base/ids.h"

namespace trireme {

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;  // natural log, of the distribution before temperature and filters
};

}  // namespace trireme
