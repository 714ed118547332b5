// The machine as checks see it: files below a root, and the few things that are no files. Tests
// give a root of their own and answers of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace trireme::doctor {

// adjtimex(2).
struct ClockState {
  bool synchronised = false;
  int64_t max_error_us = 0;
};

struct Host {
  std::string root;  // before every path: "" is this machine's

  // Names for dlopen. The libraries come with the driver, so nothing is linked against them.
  std::string nvml_library = "libnvidia-ml.so.1";
  std::string cuda_library = "libcuda.so.1";

  std::string kernels;  // those that will compute: "avx2"
  std::function<std::optional<ClockState>()> clock;
  // Whether a TCP port can be listened on.
  std::function<absl::Status(const std::string& address, int port)> listen;

  // The content without blanks at its ends; nullopt: it cannot be read, or is above 16 MiB.
  std::optional<std::string> Read(const std::string& path) const;
  std::optional<int64_t> ReadNumber(const std::string& path) const;  // of a file that is one number
  std::vector<std::string> List(const std::string& path) const;  // names, sorted; empty: no folder
  bool Exists(const std::string& path) const;
};

// This machine.
Host ThisHost();

// "MemTotal", of lines "KEY: VALUE kB" or "KEY\t: VALUE"; nullopt when there is none.
std::optional<std::string> Field(std::string_view text, std::string_view key);
std::optional<int64_t> FirstNumber(std::string_view text);

}  // namespace trireme::doctor
