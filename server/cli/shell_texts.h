// What is written out of the schema for shells and for man: every setting of every command, once in
// one place (schema.h), here only in other spellings.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// The completion script of "bash", "zsh" or "fish": commands, flags, the values of flags that have
// a list of them, and file names where a flag or argument takes one.
std::string CompletionScript(std::string_view shell);

// trireme(1), in roff with the man macros (man(7), groff_man(7)).
std::string ManualPage();

}  // namespace trireme
