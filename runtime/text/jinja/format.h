// Python's two ways to format strings.
#pragma once

#include <string>

#include "runtime/text/jinja/text.h"

namespace trireme::jinja {

// `format % values`: a tuple fills conversions in order, a dict fills %(name)s, anything else fills the only one.
Value FormatPercent(Runtime& rt, const Str& format, const Value& values);

// format.format(*positional, **named): {}, {0}, {name}, {name.attribute[key]}, !r and !s, format specifications.
Value FormatBraces(Runtime& rt, const Str& format, const Args& args);

// One number or string under "[fill][align][sign][#][0][width][,_][.precision][type]".
Value FormatSpec(Runtime& rt, const Value& value, std::string_view spec);

// printf-style rendering of one number, digits only as C has them. `type` is one of e, E, f, F, g, G.
std::string FormatFloat(double value, char type, int precision, bool alternate);

}  // namespace trireme::jinja
