// Settings of others (HF_TOKEN, AWS_PROFILE, HOME ...), from environment and files.
#pragma once

#include <optional>
#include <string>

namespace trireme::pull {

// nullopt when unset or empty.
std::optional<std::string> Environment(const char* name);

// $HOME, else that of the user database; empty: none.
std::string HomeFolder();

// nullopt when it cannot be read or is larger than 1 MiB.
std::optional<std::string> ReadSmallFile(const std::string& path);

}  // namespace trireme::pull
