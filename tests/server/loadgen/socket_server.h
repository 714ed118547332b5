// A server that does what it is told with real sockets: what a hostile or unlucky one would send.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace trireme::loadgen {

// One connection, as the server sees it.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}
  // One request, head and body; empty when the client has gone.
  std::string Read();
  bool Write(std::string_view bytes);  // false when the client has gone
  void Close();                        // orderly
  void Reset();                        // RST
  bool WaitForClose();                 // by the client, who sends nothing more; at most a minute

 private:
  int fd_;
  std::string received_;
};

// Listens on 127.0.0.1 and gives each connection, numbered from 0, to `serve` on a thread of its
// own. What a thread leaves open is closed when `serve` returns.
class SocketServer {
 public:
  using Serve = std::function<void(Peer& peer, int connection)>;
  explicit SocketServer(Serve serve);
  ~SocketServer();  // waits for every connection's thread: its client must have gone
  SocketServer(const SocketServer&) = delete;
  SocketServer& operator=(const SocketServer&) = delete;

  int port() const { return port_; }
  int connections() const { return connections_.load(); }

 private:
  const Serve serve_;
  int listener_, port_ = 0;
  std::atomic<int> connections_ = 0;
  std::vector<std::thread> threads_;  // of the acceptor's making
  std::thread acceptor_;
};

// The pieces of an answer.
std::string Chunk(std::string_view payload);
std::string TextEvent(std::string_view text);  // a chunk
inline constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
std::string StreamEnd();  // [DONE], and the last chunk

}  // namespace trireme::loadgen
