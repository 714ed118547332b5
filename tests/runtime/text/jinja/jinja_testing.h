// Helpers of this folder's tests.
#pragma once

#include <boost/json.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "runtime/base/strings.h"
#include "runtime/text/jinja/from_json.h"
#include "runtime/text/jinja/program.h"

namespace trireme::jinja {

inline std::string ReadText(const std::string& path_in_golden) {
  std::ifstream file(StrCat(TRIREME_SOURCE_DIR, "/tests/golden/jinja/", path_in_golden),
                     std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline boost::json::value ReadGolden(const std::string& path_in_golden) {
  boost::json::parse_options options;
  options.max_depth = 64;
  return boost::json::parse(ReadText(path_in_golden), {}, options);
}

// 2024-07-26, the date that the golden files were made for.
inline absl::Time GoldenNow() { return absl::FromUnixSeconds(1721995200); }

// Compiles and renders; `variables` become the template's, their strings the request's.
inline absl::StatusOr<Rendered> RenderSource(std::string_view source,
                                             const boost::json::object& variables = {},
                                             const Limits& limits = {}) {
  absl::StatusOr<std::unique_ptr<const Program>> program = Program::Compile(source);
  if (!program.ok()) return program.status();
  return (*program)->Render(
      [&](Runtime& rt, Program::Variables& out) {
        for (const auto& [name, value] : variables) {
          out.Set({name.data(), name.size()}, FromJson(rt, value));
        }
      },
      GoldenNow(), limits);
}

}  // namespace trireme::jinja
