#include "runtime/engine/engine.h"

#include <thread>
#include <utility>

#include "runtime/engine/engine_loop.h"

namespace trireme {

struct Engine::Impl {
  internal::EngineLoop loop;
  std::thread thread;
};

Engine::Engine(const EngineOptions& options, std::unique_ptr<Executor> executor, const Clock* clock,
               EngineObserver* observer)
    : impl_(new Impl{{options, std::move(executor), clock, observer}, {}}) {
  impl_->thread = std::thread([loop = &impl_->loop] {
    while (loop->Round(/*may_sleep=*/true)) {
    }
  });
}

Engine::~Engine() {
  impl_->loop.mailbox().Close();
  impl_->thread.join();
}

absl::StatusOr<RequestStream> Engine::Submit(GenerateRequest request) {
  return impl_->loop.Submit(std::move(request));
}
void Engine::Drain(absl::Time deadline) { impl_->loop.mailbox().Drain(deadline); }
absl::Status Engine::accepting() const { return impl_->loop.mailbox().accepting(); }
void Engine::WatchDevice(std::function<void()> lost) {
  impl_->loop.mailbox().WatchDevice(std::move(lost));
}
EngineStats Engine::stats() const { return impl_->loop.mailbox().stats(); }
const EngineOptions& Engine::options() const { return impl_->loop.options(); }
void Engine::Poke() { impl_->loop.mailbox().Wake(); }
void Engine::WaitIdleAndCheck() { impl_->loop.mailbox().WaitIdleAndCheck(); }

}  // namespace trireme
