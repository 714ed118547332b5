// Bytes of a connection: the requests in them are the same however the bytes are cut into reads.
#include <algorithm>

#include "server/http/request_parser.h"
#include "tests/fuzz/fuzz.h"

namespace trireme::fuzz {
namespace {

constexpr size_t kMaxHeader = 1024, kMaxBody = 1024;

struct Outcome {
  std::vector<std::string> requests;  // in order, as one text each
  std::string error;                  // that ended them; empty: none
  bool half_head = false;             // they end inside a head
};

std::string Text(const http::HttpRequest& head, const std::string& body) {
  std::string out;
  for (const std::string& part :
       {head.method, head.path, head.query, head.request_id, head.authorization, head.api_key,
        head.content_type, head.content_encoding, head.if_none_match, body}) {
    out += part;
    out += '\0';
  }
  out += {head.http_1_1 ? '1' : '0', head.keep_alive ? '1' : '0', head.expect_continue ? '1' : '0'};
  return out;
}

// Reads of `step` bytes.
Outcome Parse(std::string_view data, size_t step) {
  Outcome out;
  std::string input;
  auto parser = std::make_unique<http::RequestParser>(kMaxHeader, kMaxBody);
  http::HttpRequest head;
  bool have_head = false;
  for (size_t at = 0; at < data.size() || !input.empty();) {
    const size_t before = input.size(), taken = std::min(step, data.size() - at);
    input += data.substr(at, taken);
    at += taken;
    if (const auto error = parser->Feed(&input)) {
      FUZZ_CHECK(error->http_status >= 400 && error->http_status < 600 && !error->message.empty(),
                 error->message);
      out.error = error->message;
      return out;
    }
    if (parser->head_done() && !have_head) {
      head = parser->TakeHead();
      have_head = true;
      continue;
    }
    FUZZ_CHECK(parser->body_bytes() <= kMaxBody, "a body within its limit");
    if (parser->done()) {
      out.requests.push_back(Text(head, parser->TakeBody()));
      parser = std::make_unique<http::RequestParser>(kMaxHeader, kMaxBody);
      have_head = false;
    } else if (taken == 0 && input.size() == before) {
      break;  // it waits for more
    }
  }
  out.half_head = !have_head;
  return out;
}

}  // namespace

void OneInput(std::string_view data) {
  if (data.empty()) return;
  const Outcome whole = Parse(data, data.size());
  const size_t odd = 1 + static_cast<unsigned char>(data[0]) % 64;
  for (const size_t step : {size_t{1}, size_t{7}, odd}) {
    const Outcome cut = Parse(data, step);
    FUZZ_CHECK(cut.requests == whole.requests, "the same requests");
    // A head that comes in pieces is judged when it is complete, one that comes at once may be
    // before.
    FUZZ_CHECK(cut.error.empty() == whole.error.empty() || cut.half_head || whole.half_head,
               whole.error + "|" + cut.error);
  }
  const auto decoded = http::PercentDecode(data);
  FUZZ_CHECK(!decoded || decoded->size() <= data.size(), "percent-decoding only shrinks");
}

}  // namespace trireme::fuzz
