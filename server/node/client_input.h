// Rules for what clients write that hold behind every door: JSON within fixed budgets, roles of
// chat messages.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trireme {

inline constexpr size_t kMaxJsonDepth = 64;
// Of one whole document. Keys: a hostile one takes milliseconds. Values: 64 MiB of them; long
// token-id prompts fit.
inline constexpr size_t kMaxJsonKeys = 100'000;
inline constexpr size_t kMaxJsonValues = 4'000'000;

// The document's root, which must be an object. INVALID_ARGUMENT whose message is the reason alone:
// no JSON by RFC 8259 (NaN, trailing bytes, invalid UTF-8, lone surrogates ...), a key twice in one
// object, over a budget, a number beyond a double (this one with its member as param). Time and
// memory are linear in text.size().
absl::StatusOr<boost::json::object> ParseJsonObject(std::string_view text);

inline constexpr std::string_view kToolsNotSupported =
    "Tool use is not supported by this server yet.";

// The role of a chat message as every chat template knows it: "developer" becomes "system".
// INVALID_ARGUMENT naming `param` for tool, function and what is no role.
absl::StatusOr<std::string> TemplateRole(std::string_view role, std::string_view param);

// An error told of the field by the name that the client gave it: `param`, and the message where it
// begins with the old name. No-op on OK.
absl::Status RenameParam(absl::Status error, std::string_view name);

// "a string", "an integer" ...: what an error calls the value.
std::string_view KindName(const boost::json::value& value);

}  // namespace trireme
