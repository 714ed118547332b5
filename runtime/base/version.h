// The version of this program, which every door and --version tell. CMakeLists.txt has the same.
#pragma once

namespace trireme {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace trireme
