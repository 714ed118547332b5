#include "server/node/request_registry.h"

#include <algorithm>

#include "runtime/base/status.h"

namespace trireme {

bool IsSaneRequestId(std::string_view id) {
  return !id.empty() && id.size() <= 128 && id != "." && id != ".." &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

absl::Status RequestCancelled() {
  return WithCode(absl::CancelledError("the request was cancelled"), "cancelled");
}

RequestRegistry::Ticket& RequestRegistry::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Leave();
  registry_ = std::exchange(other.registry_, nullptr);
  entry_ = std::move(other.entry_);
  return *this;
}

void RequestRegistry::Ticket::SetSubmitted(std::string_view model, bool stream, int prompt_tokens) {
  if (entry_ == nullptr) return;
  std::lock_guard lock(entry_->mu);
  RequestInfo& info = entry_->info;
  info.state = RequestInfo::State::kWaiting;
  info.model = std::string(model);
  info.stream = stream;
  info.prompt_tokens = prompt_tokens;
}

void RequestRegistry::Ticket::SetGenerated(int tokens) {
  if (entry_ == nullptr || tokens == 0) return;
  std::lock_guard lock(entry_->mu);
  entry_->info.state = RequestInfo::State::kGenerating;
  entry_->info.generated_tokens = tokens;
}

void RequestRegistry::Ticket::Leave() {
  if (entry_ == nullptr) return;
  {
    std::lock_guard lock(registry_->mu_);
    registry_->entries_.erase({entry_->info.tenant, entry_->number});
  }
  // Destroyed without the lock: who knows what it holds.
  absl::AnyInvocable<void()> cancel;
  {
    std::lock_guard lock(entry_->mu);
    cancel = std::exchange(entry_->cancel, nullptr);
  }
  entry_.reset();
}

RequestRegistry::Ticket RequestRegistry::Enter(RequestInfo info,
                                               absl::AnyInvocable<void()> cancel) {
  auto entry = std::make_shared<Entry>();
  entry->info = std::move(info);
  entry->cancel = std::move(cancel);
  Ticket ticket;
  std::lock_guard lock(mu_);
  if (entries_.size() >= kMaxEntries) return ticket;
  entry->number = next_number_++;
  entries_.emplace(Key(entry->info.tenant, entry->number), entry);
  ticket.registry_ = this;
  ticket.entry_ = std::move(entry);
  return ticket;
}

RequestRegistry::Listing RequestRegistry::List(std::string_view tenant) const {
  std::vector<std::shared_ptr<Entry>> found;
  Listing out;
  {
    std::lock_guard lock(mu_);
    for (auto it = entries_.lower_bound(Key(tenant, 0));
         it != entries_.end() && it->first.first == tenant; ++it) {
      if (found.size() < kMaxListed) found.push_back(it->second);
      ++out.total;
    }
  }
  for (const std::shared_ptr<Entry>& entry : found) {
    std::lock_guard lock(entry->mu);
    out.requests.push_back(entry->info);
  }
  return out;
}

bool RequestRegistry::Cancel(std::string_view tenant, std::string_view id) {
  std::vector<std::shared_ptr<Entry>> found;
  {
    std::lock_guard lock(mu_);
    for (auto it = entries_.lower_bound(Key(tenant, 0));
         it != entries_.end() && it->first.first == tenant; ++it) {
      if (it->second->info.id == id) found.push_back(it->second);
    }
  }
  for (const std::shared_ptr<Entry>& entry : found) {
    absl::AnyInvocable<void()> cancel;
    std::lock_guard lock(entry->mu);
    cancel = std::exchange(entry->cancel, nullptr);
    if (cancel) cancel();  // with the lock: Leave waits for it
  }
  return !found.empty();
}

}  // namespace trireme
