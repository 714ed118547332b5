#include "server/observe/otlp_exporter.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/log.h"
#include "server/observe/otlp_encoder.h"

namespace trireme {
namespace {

using Batch = std::vector<std::shared_ptr<const FinishedRequest>>;
using SteadyTime = OtlpSender::Time;

constexpr std::chrono::nanoseconds kFirstBackoff = std::chrono::milliseconds(500);
constexpr std::chrono::nanoseconds kLongestBackoff = std::chrono::seconds(15);

SteadyTime Now() { return std::chrono::steady_clock::now(); }

// ExportTracePartialSuccess.rejected_spans of a 200; a string or a number.
int64_t RejectedSpans(const std::string& body) {
  boost::system::error_code error;
  const boost::json::value parsed = boost::json::parse(body, error);
  if (error || !parsed.is_object()) return 0;
  const boost::json::value* partial = parsed.as_object().if_contains("partialSuccess");
  if (partial == nullptr || !partial->is_object()) return 0;
  const boost::json::value* rejected = partial->as_object().if_contains("rejectedSpans");
  if (rejected == nullptr) return 0;
  if (rejected->is_int64()) return rejected->as_int64();
  int64_t count = 0;
  if (const boost::json::string* text = rejected->if_string()) {
    std::from_chars(text->data(), text->data() + text->size(), count);
  }
  return count;
}

}  // namespace

struct OtlpExporter::State {
  State(OtlpOptions otlp_options, DropCounter drop_counter, std::unique_ptr<OtlpSender> the_sender)
      : options(std::move(otlp_options)),
        dropped(std::move(drop_counter)),
        sender(std::move(the_sender)) {}

  void Run();
  Batch Take(std::unique_lock<std::mutex>& lock);
  bool Send(const Batch& batch);
  bool WaitForTurn();
  void NoteHealth(bool ok, const std::string& reason);
  void Lose(size_t requests) { dropped(static_cast<int64_t>(requests)); }

  const OtlpOptions options;
  const DropCounter dropped;
  const std::unique_ptr<OtlpSender> sender;

  // The thread's. Backoff and turn outlive a batch: a collector in trouble is not asked anew with
  // each.
  std::minstd_rand jitter{std::random_device{}()};
  bool failing = false;
  std::chrono::nanoseconds backoff = kFirstBackoff;
  SteadyTime not_before{};

  std::mutex mu;
  std::condition_variable changed;
  // Guarded by mu.
  std::deque<std::shared_ptr<const FinishedRequest>> queue;
  size_t in_hand = 0;  // requests being sent
  SteadyTime give_up_at = SteadyTime::max();
  bool closing = false;
  bool ended = false;        // the thread has nothing more to do
  bool left_behind = false;  // what it had in hand then is counted
  std::thread thread;        // of the owner
};

// Waits for a full batch, or for the first of it to be old enough. Empty: closing, and all is sent.
Batch OtlpExporter::State::Take(std::unique_lock<std::mutex>& lock) {
  changed.wait(lock, [this] { return closing || !queue.empty(); });
  changed.wait_for(lock, absl::ToChronoNanoseconds(options.delay),
                   [this] { return closing || queue.size() >= options.max_batch; });
  Batch batch;
  while (!queue.empty() && batch.size() < options.max_batch) {
    batch.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  in_hand = batch.size();
  return batch;
}

void OtlpExporter::State::Run() {
  std::unique_lock lock(mu);
  while (!left_behind) {
    const Batch batch = Take(lock);
    if (batch.empty()) break;
    lock.unlock();
    const bool sent = Send(batch);
    lock.lock();
    const size_t lost = sent ? 0 : in_hand;  // none if Close has counted them
    in_hand = 0;
    lock.unlock();
    if (lost > 0) Lose(lost);
    lock.lock();
  }
  ended = true;
  changed.notify_all();
}

// False: the batch is lost.
bool OtlpExporter::State::Send(const Batch& batch) {
  const std::string body = EncodeTraces(options.resource, batch);
  SteadyTime first_try{};
  for (;;) {
    if (!WaitForTurn()) return false;
    if (first_try == SteadyTime{}) first_try = Now();
    const OtlpAnswer answer = sender->Post(body);
    NoteHealth(answer.ok(), answer.Reason());
    if (answer.ok()) {
      backoff = kFirstBackoff;
      if (const int64_t rejected = RejectedSpans(answer.body); rejected > 0) {
        Log(LogLevel::kWarning, "the trace collector rejected spans", {{"spans", rejected}});
      }
      return true;
    }
    if (!answer.retryable()) return false;
    const double spread = std::uniform_real_distribution<double>(0.8, 1.2)(jitter);
    const std::chrono::nanoseconds wait(
        std::llround(static_cast<double>(backoff.count()) * spread));
    backoff = std::min(2 * backoff, kLongestBackoff);
    not_before = Now() + std::max<std::chrono::nanoseconds>(answer.retry_after, wait);
    const bool told = answer.retry_after.count() > 0;
    if (!told && not_before - first_try >= absl::ToChronoNanoseconds(kMaxRetryTime)) return false;
  }
}

// Until the collector may be asked again; false when there is no time left for it.
bool OtlpExporter::State::WaitForTurn() {
  std::unique_lock lock(mu);
  const auto hopeless = [this] { return std::max(not_before, Now()) >= give_up_at; };
  changed.wait_until(lock, not_before, hopeless);
  return !hopeless();
}

// Says once that the collector fails, and once that it is back.
void OtlpExporter::State::NoteHealth(bool ok, const std::string& reason) {
  if (failing == !ok) return;
  failing = !ok;
  if (ok) {
    Log(LogLevel::kInfo, "traces are exported again");
  } else {
    Log(LogLevel::kWarning, "traces cannot be exported", {{"reason", reason}});
  }
}

OtlpExporter::OtlpExporter(const OtlpOptions& options, DropCounter dropped)
    : OtlpExporter(options, std::move(dropped), MakeCurlSender(options)) {}

OtlpExporter::OtlpExporter(OtlpOptions options, DropCounter dropped,
                           std::unique_ptr<OtlpSender> sender)
    : state_(std::make_shared<State>(std::move(options), std::move(dropped), std::move(sender))) {
  state_->thread = std::thread([state = state_] { state->Run(); });
}

OtlpExporter::~OtlpExporter() { Close(absl::ZeroDuration()); }

void OtlpExporter::OnRequest(std::shared_ptr<const FinishedRequest> request) {
  {
    std::lock_guard lock(state_->mu);
    if (!state_->closing && state_->queue.size() < state_->options.max_queued) {
      state_->queue.push_back(std::move(request));
      state_->changed.notify_one();
      return;
    }
  }
  state_->Lose(1);
}

void OtlpExporter::BeginClose() {
  std::lock_guard lock(state_->mu);
  state_->closing = true;
  state_->changed.notify_all();
}

void OtlpExporter::Close(absl::Duration patience) {
  BeginClose();
  State& state = *state_;
  if (!state.thread.joinable()) return;
  std::unique_lock lock(state.mu);
  state.give_up_at = Now() + absl::ToChronoNanoseconds(patience);
  state.sender->GiveUpAt(state.give_up_at);
  state.changed.notify_all();
  if (state.changed.wait_for(lock, absl::ToChronoNanoseconds(patience + kAbortTime),
                             [&] { return state.ended; })) {
    lock.unlock();
    state.thread.join();
    return;
  }
  state.left_behind = true;
  const size_t lost = state.queue.size() + std::exchange(state.in_hand, 0);
  state.queue.clear();
  lock.unlock();
  state.thread.detach();
  if (lost > 0) state.Lose(lost);
}

}  // namespace trireme
