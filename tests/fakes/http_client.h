// A blocking HTTP/1.1 client over a raw socket, which sends any bytes and shows exactly what came
// back.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace trireme::fakes {

struct HttpAnswer {
  int status = 0;                              // 0: the connection ended before an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // without chunk framing
  std::string header(const std::string& name) const;
};

// Connects to 127.0.0.1. Every wait ends after a minute, so that a broken server fails a test
// rather than hangs it.
class HttpClient {
 public:
  explicit HttpClient(int port, int receive_buffer_bytes = 0);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  bool Send(std::string_view bytes);  // false when the server has closed
  void ShutdownSend();                // half-close
  void Close();                       // orderly
  void Reset();                       // RST

  // One answer: head, and body by its framing. `head_only`: to HEAD.
  HttpAnswer Read(bool head_only = false);
  // Bytes as they come, until `marker` has been seen (it is included) or the connection ends.
  std::string ReadUntil(std::string_view marker);
  std::string ReadToEnd();

  // Request and answer at once.
  HttpAnswer Get(std::string_view path, std::string_view headers = "");
  HttpAnswer Post(std::string_view path, std::string_view body, std::string_view headers = "");

  static std::string Request(std::string_view method, std::string_view path, std::string_view body,
                             std::string_view headers = "");

 private:
  bool Fill();
  std::string Take(size_t count);
  std::string ReadChunks();

  int fd_ = -1;
  std::string buffer_;
};

}  // namespace trireme::fakes
