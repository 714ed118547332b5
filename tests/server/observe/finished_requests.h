// Requests that have ended, for tests of what is told of them.
#pragma once

#include <memory>

#include "server/observe/finished_request.h"

namespace trireme {

// A chat over HTTP: queue 1 s, prefill 2 s, decode 3 s, then 1 s until the answer was written.
inline FinishedRequest Chat() {
  const absl::Time start = absl::FromUnixSeconds(1000);
  FinishedRequest request;
  request.id = "req-1";
  request.tenant = "team-a";
  request.method = "POST";
  request.route = "/v1/chat/completions";
  request.peer = "private";
  request.http_status = 200;
  request.begin = start;
  request.end = start + absl::Seconds(7);
  request.to_wall = absl::Seconds(1'700'000'000 - 1000);
  request.model = "demo";
  request.work = {.arrival = start,
                  .first_scheduled = start + absl::Seconds(1),
                  .first_token = start + absl::Seconds(3),
                  .last_token = start + absl::Seconds(6),
                  .finished = start + absl::Seconds(6),
                  .prompt_tokens = 12,
                  .cached_prompt_tokens = 8,
                  .generated_tokens = 5};
  request.finish_reasons = {FinishReason::kStop};
  return request;
}

inline std::shared_ptr<const FinishedRequest> Shared(FinishedRequest request) {
  return std::make_shared<const FinishedRequest>(std::move(request));
}

}  // namespace trireme
