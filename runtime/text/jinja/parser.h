// Template source to a Tree.
#pragma once

#include <memory>
#include <string_view>

#include "runtime/text/jinja/ast.h"

namespace trireme::jinja {

inline constexpr size_t kMaxSourceBytes = size_t{1} << 20;
inline constexpr int kMaxParseDepth = 100;  // nested brackets, operators' operands and statements

// Throws TemplateError: INVALID_ARGUMENT with the position for malformed or unsupported syntax and unknown filters or
// tests, RESOURCE_EXHAUSTED for templates beyond the limits above.
std::unique_ptr<const Tree> Parse(std::string_view source);

}  // namespace trireme::jinja
