// JSON of a request as values of the template language.
#pragma once

#include <boost/json.hpp>

#include "runtime/text/jinja/runtime.h"

namespace trireme::jinja {

// Strings are not copied: `json` must outlive the rendering. All of them, keys included, count as the request's.
// Throws TemplateError for integers outside the signed 64-bit range.
Value FromJson(Runtime& rt, const boost::json::value& json);

}  // namespace trireme::jinja
