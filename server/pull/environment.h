// Settings of others (HF_TOKEN, AWS_PROFILE, HOME ...).
#pragma once

#include <optional>
#include <string>

namespace trireme::pull {

// nullopt when unset or empty.
std::optional<std::string> Environment(const char* name);

// $HOME, else that of the user database; empty: none.
std::string HomeFolder();

}  // namespace trireme::pull
