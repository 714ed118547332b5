// The requests in flight behind every door: who may see them, and how they are cancelled.
//
// A door holds a Ticket from a request's arrival to its end and reports progress to it. Holds
// names and counts only, nothing of what was asked or answered. What a tenant lists and cancels is
// its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace trireme {

struct RequestInfo {
  enum class Door { kHttp, kGrpc };
  enum class State {
    kPreparing,   // in the template and the tokenizer, or in the queue before them
    kWaiting,     // in the engine: in its queue or in prefill
    kGenerating,  // has its first token
  };

  std::string id;  // as the client gave it or was told it: x-request-id
  std::string tenant;
  Door door = Door::kHttp;
  absl::Time arrival;
  // Known once prepared.
  State state = State::kPreparing;
  std::string model;
  bool stream = false;
  int prompt_tokens = 0, generated_tokens = 0;
};

// 1 to 128 visible ASCII characters: fit for a header, a log line and, escaped, one segment of a
// URL's path; "." and ".." are not, since every client of URLs resolves them (RFC 3986, 5.2.4).
bool IsSaneRequestId(std::string_view id);

// How a request ends that RequestRegistry::Cancel has ended: CANCELLED, code "cancelled".
absl::Status RequestCancelled();

// Thread-safe. Outlives its tickets.
class RequestRegistry {
 private:
  struct Entry;

 public:
  // Further requests are served all the same, but neither listed nor cancelled by id.
  static constexpr size_t kMaxEntries = 1 << 16;
  static constexpr size_t kMaxListed = 1000;

  // A request's place in the registry, left when it is destroyed. Used by one thread at a time.
  class Ticket {
   public:
    Ticket() = default;  // of no request: reports go nowhere
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Leave(); }

    void SetSubmitted(std::string_view model, bool stream, int prompt_tokens);
    void SetGenerated(int tokens);
    // Once this has returned, `cancel` neither runs nor will run.
    void Leave();

   private:
    friend class RequestRegistry;
    RequestRegistry* registry_ = nullptr;
    std::shared_ptr<Entry> entry_;
  };

  // Only id, tenant, door and arrival of `info` are read. Ids need not be unique. `cancel` is
  // called at most once, from any thread, and must not block: it posts to its own executor.
  Ticket Enter(RequestInfo info, absl::AnyInvocable<void()> cancel);

  struct Listing {
    std::vector<RequestInfo> requests;  // oldest first, at most kMaxListed
    size_t total = 0;
  };
  Listing List(std::string_view tenant) const;
  // Cancels every request of this tenant and id; false when there is none.
  bool Cancel(std::string_view tenant, std::string_view id);

 private:
  struct Entry {
    mutable std::mutex mu;  // never held together with the registry's
    // Guarded by mu; id and tenant are constant after Enter.
    RequestInfo info;
    absl::AnyInvocable<void()> cancel;  // empty once called or left
    uint64_t number = 0;                // constant after Enter
  };
  // Tenant, order of arrival: what a tenant may see lies side by side.
  using Key = std::pair<std::string, uint64_t>;

  mutable std::mutex mu_;
  // Guarded by mu_.
  std::map<Key, std::shared_ptr<Entry>> entries_;
  uint64_t next_number_ = 0;
};

}  // namespace trireme
