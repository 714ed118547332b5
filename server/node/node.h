// One served model: everything the doors share. Built once by LoadNode, then immutable but for the
// engine inside.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/base/worker_pool.h"
#include "runtime/engine/engine.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "server/node/request_registry.h"

namespace trireme {

struct ModelInfo {
  std::string id;                          // the name clients send as `model`
  std::vector<std::string> aliases;        // further names that are accepted
  absl::Time created;                      // when it was loaded
  std::string architecture, quantization;  // "llama", "Q4_1"
  std::string device;                      // for people: "cpu (avx2, 2 threads)"
  int max_context_tokens = 0;
  int vocab_size = 0;
};

struct Node {
  ModelInfo info;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const ChatTemplate> chat_template;  // null: the model has none, chat is refused
  SamplingParams default_sampling;  // generation_config.json over the wire's defaults
  std::unique_ptr<Engine> engine;
  std::unique_ptr<WorkerPool> workers;  // templates and tokenization
  const Clock* clock = nullptr;
  // What every door has in flight.
  std::unique_ptr<RequestRegistry> requests = std::make_unique<RequestRegistry>();
};

}  // namespace trireme
