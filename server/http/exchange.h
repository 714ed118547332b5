// One request and its answer: what handlers see. Internal to server/http; io thread of the
// connection only.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "server/admission/keys.h"
#include "server/dialects/openai/errors.h"
#include "server/http/connection.h"
#include "server/node/generation.h"
#include "server/observe/finished_request.h"

namespace trireme::http {

inline constexpr char kJson[] = "application/json";

struct Route;

class Exchange {
 public:
  Exchange(Connection* connection, HttpRequest request);

  HttpRequest& request() { return request_; }
  const std::string& request_id() const { return request_id_; }
  const Tenant& tenant() const { return tenant_; }
  ServerContext& context() const { return connection_->context(); }
  // Not before CheckHead has found that there is one.
  Node& node() const { return *context().node.load(); }
  void set_tenant(Tenant tenant) { tenant_ = std::move(tenant); }
  void set_key_refused() { record_.key_refused = true; }
  void set_bytes_received(uint64_t bytes) { record_.bytes_received = bytes; }

  // The whole answer. Every handler answers exactly once: with one of these or with a stream.
  boost::asio::awaitable<void> Respond(int status, std::string_view content_type,
                                       std::string_view body, std::string_view extra_headers = "");
  boost::asio::awaitable<void> RespondError(const openai::ApiError& error,
                                            std::string_view extra_headers = "");
  // Logs what the client is not told.
  boost::asio::awaitable<void> RespondError(const absl::Status& status);

  // A stream of server-sent events. The first call sends the head; the one with `last` ends the
  // stream. False when the peer is gone: then nothing more needs to be written.
  boost::asio::awaitable<bool> WriteEvents(std::string_view events, bool last);
  bool started() const { return status_ != 0; }

  // ---- For requests that generate: listed and cancelled through node().requests.

  // From now until the exchange ends.
  void EnterRegistry();
  // Between EnterRegistry and SetGeneration the handler asks for itself.
  bool cancelled() const { return cancellation_ != nullptr && cancellation_->requested; }
  // When the request is cancelled, so is `generation`: its TryNext tells why. `model` as the client
  // spelt it.
  void SetGeneration(const std::shared_ptr<Generation>& generation, std::string_view model,
                     bool stream);
  void ReportGenerated(int tokens) { ticket_.SetGenerated(tokens); }
  // Of an answer whose status does not tell: a stream that has begun.
  void NoteError(const openai::ApiError& error);

  // Runs `work` on node().workers and waits for its end. kPeerGone: nobody waits for its result any
  // more; if that, or a cancellation, was known before a worker came to it, it has not run.
  enum class Work { kDone, kQueueFull, kPeerGone };
  boost::asio::awaitable<Work> RunOnWorkers(absl::FunctionRef<void()> work);

  enum class News { kReady, kTimeout, kPeerGone, kAborted };
  // Waits until TryNext should be called.
  boost::asio::awaitable<News> WaitForNews(Generation* generation, TimePoint deadline);

  void set_must_close() { must_close_ = true; }
  bool must_close() const;
  // After the answer: tells how it ended. `route` null: none of ours. Cancels what still runs.
  void Finish(const Route* route);

 private:
  // What of the exchange a cancellation needs; shared, because one may be posted when the exchange
  // has ended. Io thread only.
  struct Cancellation {
    bool requested = false;
    std::weak_ptr<Generation> generation;
  };

  bool generates() const { return cancellation_ != nullptr; }  // EnterRegistry was called
  std::string Head(int status, std::string_view content_type, std::string_view framing,
                   std::string_view extra_headers) const;
  // The answer's bytes as they go out: without those that the probe has sent ahead.
  std::string AfterProbe(std::string bytes) const;
  std::string_view Probe() const;

  Connection* const connection_;
  HttpRequest request_;
  std::string request_id_;
  Tenant tenant_;
  const uint64_t bytes_sent_before_;  // of the connection's, by earlier exchanges
  FinishedRequest record_;            // what is known so far
  int status_ = 0;                    // of the answer; 0: none yet
  bool complete_ = false;             // the answer has been written to its end
  bool must_close_ = false;
  std::string outgoing_;  // of WriteEvents; keeps its capacity
  std::shared_ptr<Cancellation> cancellation_;
  std::shared_ptr<Generation> generation_;
  RequestRegistry::Ticket ticket_;
};

}  // namespace trireme::http
