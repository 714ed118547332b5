// A node without a model for targets that prepare requests: a tokenizer of bytes, ChatML, a context
// of 400 tokens.
#pragma once

#include "server/node/node.h"

namespace trireme::fuzz {

Node& SmallNode();

// What holds of every request that was prepared on it: it passes the validator, and together they
// are within what the node queues.
void CheckPrepared(const std::vector<GenerateRequest>& requests);

}  // namespace trireme::fuzz
