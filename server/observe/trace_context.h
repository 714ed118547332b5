// Which distributed trace a request belongs to: W3C Trace Context (Recommendation of 2021-11-23;
// the headers `traceparent` and `tracestate`).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"

namespace trireme {

struct TraceContext {
  std::array<uint8_t, 16> trace_id{};  // all zero: none
  std::array<uint8_t, 8> parent_id{};  // the caller's span; all zero: a trace that begins here
  bool sampled = false;
  std::string tracestate;  // as received, lists joined by commas; empty: none

  bool has_id() const { return trace_id != decltype(trace_id){}; }
  bool has_parent() const { return parent_id != decltype(parent_id){}; }
};

// Longer lists are dropped whole; the standard asks for 512 bytes.
inline constexpr size_t kMaxTracestateBytes = 4096;

// The caller's context, of every header (or metadata entry) of these names in order of arrival.
// Nullopt when there is no traceparent, more than one, or a malformed one: the caller's trace is
// not continued then, as section 4.3 wants it. A malformed tracestate is dropped alone.
std::optional<TraceContext> ParseTraceContext(const std::vector<std::string_view>& traceparents,
                                              const std::vector<std::string_view>& tracestates);

// A trace that begins here: random ids; sampled with probability `ratio`, decided by the id's last
// 56 bits, so that all who follow this rule agree (OpenTelemetry's TraceIdRatioBased).
TraceContext NewTrace(double ratio);
bool SampledByRatio(const std::array<uint8_t, 16>& trace_id, double ratio);

std::array<uint8_t, 8> NewSpanId();

template <size_t N>
std::string ToHex(const std::array<uint8_t, N>& bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), N});
}

}  // namespace trireme
