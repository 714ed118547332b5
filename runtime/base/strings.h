// The packaged Abseil is built with its own string_view (not std's), so std::string_view does not
// convert by itself. These are the only bridges: ToAbsl where an Abseil function wants a view,
// StrCat in place of absl::StrCat.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace trireme {

inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view FromAbsl(absl::string_view s) { return {s.data(), s.size()}; }

namespace internal {
template <typename T>
decltype(auto) StrCatArgument(const T& value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return ToAbsl(value);
  } else {
    return (value);
  }
}
}  // namespace internal

// absl::StrCat that also takes std::string_view.
template <typename... Args>
std::string StrCat(const Args&... args) {
  return absl::StrCat(internal::StrCatArgument(args)...);
}
template <typename... Args>
void StrAppend(std::string* out, const Args&... args) {
  absl::StrAppend(out, internal::StrCatArgument(args)...);
}

// What a file or a peer called something, made fit for a message: one line of valid UTF-8, at most
// `max_bytes` of `text` (whole characters, then "..."). Control characters, those that change the
// direction of text, bytes that are no UTF-8, and the backslash come out escaped ("\n", "\xff"), so
// that a hostile name can neither forge a log line nor steer a terminal.
std::string Printable(std::string_view text, size_t max_bytes = 64);

// "1.5 GiB": four digits at most, for people.
std::string SizeText(int64_t bytes);

// "No such file or directory", of an errno. strerror is not thread-safe.
std::string ErrnoText(int error);

}  // namespace trireme
