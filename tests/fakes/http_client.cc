#include "tests/fakes/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "runtime/base/strings.h"

namespace trireme::fakes {

std::string HttpAnswer::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

HttpClient::HttpClient(int port, int receive_buffer_bytes) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer_bytes > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  const timeval patience = {.tv_sec = 60};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Close();
}

HttpClient::~HttpClient() { Close(); }

bool HttpClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void HttpClient::ShutdownSend() { shutdown(fd_, SHUT_WR); }

void HttpClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void HttpClient::Reset() {
  const linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  Close();
}

bool HttpClient::Fill() {
  char bytes[16384];
  const ssize_t n = recv(fd_, bytes, sizeof(bytes), 0);
  if (n <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(n));
  return true;
}

std::string HttpClient::Take(size_t count) {
  while (buffer_.size() < count && Fill()) {
  }
  const std::string taken = buffer_.substr(0, count);
  buffer_.erase(0, taken.size());
  return taken;
}

std::string HttpClient::ReadUntil(std::string_view marker) {
  size_t found;
  while ((found = buffer_.find(marker)) == std::string::npos) {
    if (!Fill()) return Take(buffer_.size());
  }
  return Take(found + marker.size());
}

std::string HttpClient::ReadToEnd() {
  while (Fill()) {
  }
  return Take(buffer_.size());
}

std::string HttpClient::ReadChunks() {
  std::string body;
  for (;;) {
    const size_t size = std::strtoul(ReadUntil("\r\n").c_str(), nullptr, 16);
    const std::string chunk = Take(size + 2);
    if (size == 0 || chunk.size() < size + 2) return body;
    body += chunk.substr(0, size);
  }
}

HttpAnswer HttpClient::Read(bool head_only) {
  HttpAnswer answer;
  std::string head = ReadUntil("\r\n\r\n");
  if (!head.starts_with("HTTP/1.1 ") || !head.ends_with("\r\n\r\n")) return answer;
  answer.status = std::atoi(head.c_str() + 9);
  for (size_t line = head.find("\r\n") + 2; line < head.size() - 2;) {
    const size_t end = head.find("\r\n", line);
    const size_t colon = head.find(':', line);
    std::string name = head.substr(line, colon - line);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    answer.headers[name] = head.substr(colon + 2, end - colon - 2);
    line = end + 2;
  }
  if (head_only || answer.status == 100 || answer.status == 304) return answer;
  if (answer.headers.contains("content-length")) {
    answer.body = Take(std::strtoul(answer.headers["content-length"].c_str(), nullptr, 10));
  } else if (answer.header("transfer-encoding") == "chunked") {
    answer.body = ReadChunks();
  } else {
    answer.body = ReadToEnd();
  }
  return answer;
}

std::string HttpClient::Request(std::string_view method, std::string_view path,
                                std::string_view body, std::string_view headers) {
  std::string out = StrCat(method, " ", path, " HTTP/1.1\r\nHost: test\r\n", headers);
  if (!body.empty() || method == "POST") {
    StrAppend(&out, "Content-Type: application/json\r\nContent-Length: ", body.size(), "\r\n");
  }
  return StrCat(out, "\r\n", body);
}

HttpAnswer HttpClient::Get(std::string_view path, std::string_view headers) {
  Send(Request("GET", path, "", headers));
  return Read();
}

HttpAnswer HttpClient::Post(std::string_view path, std::string_view body,
                            std::string_view headers) {
  Send(Request("POST", path, body, headers));
  return Read();
}

}  // namespace trireme::fakes
