#include "tests/server/loadgen/socket_server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/base/check.h"
#include "runtime/base/strings.h"

namespace trireme::loadgen {

std::string Peer::Read() {
  size_t wanted = 0;  // 0: the head has not come yet
  char block[1 << 16];
  while (wanted == 0 || received_.size() < wanted) {
    const size_t head = received_.find("\r\n\r\n");
    if (head != std::string::npos) {
      const size_t length = received_.find("Content-Length: ");
      wanted = head + 4;
      if (length < head) wanted += std::strtoul(received_.c_str() + length + 16, nullptr, 10);
      if (received_.size() >= wanted) break;
    }
    const ssize_t count = recv(fd_, block, sizeof block, 0);
    if (count <= 0) return "";
    received_.append(block, static_cast<size_t>(count));
  }
  std::string request = received_.substr(0, wanted);
  received_.erase(0, wanted);
  return request;
}

bool Peer::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

void Peer::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void Peer::Reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  Close();
}

bool Peer::WaitForClose() {
  const timeval minute{.tv_sec = 60};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
  char byte;
  const ssize_t count = recv(fd_, &byte, 1, 0);
  return count == 0 || (count < 0 && errno == ECONNRESET);
}

SocketServer::SocketServer(Serve serve)
    : serve_(std::move(serve)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  TRIREME_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  TRIREME_CHECK(listen(listener_, 128) == 0);
  TRIREME_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] {
    for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0;) {
      const int number = connections_.fetch_add(1);
      threads_.emplace_back([this, fd, number] {
        Peer peer(fd);
        serve_(peer, number);
        peer.Close();
      });
    }
  });
}

SocketServer::~SocketServer() {
  shutdown(listener_, SHUT_RDWR);  // ends accept()
  acceptor_.join();
  close(listener_);
  for (std::thread& thread : threads_) thread.join();
}

std::string Chunk(std::string_view payload) {
  return StrCat(absl::Hex(payload.size()), "\r\n", payload, "\r\n");
}

std::string TextEvent(std::string_view text) {
  return Chunk(StrCat("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"", text,
                      "\"},\"finish_reason\":null}]}\n\n"));
}

std::string StreamEnd() { return Chunk("data: [DONE]\n\n") + "0\r\n\r\n"; }

}  // namespace trireme::loadgen
