#pragma once

namespace trireme {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace trireme
