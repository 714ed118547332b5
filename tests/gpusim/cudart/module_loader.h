// The kernels and variables of one fat binary on one device.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tests/gpusim/vm/device_memory.h"
#include "tests/gpusim/vm/program.h"

namespace trireme::gpusim {

class LoadedModule {
 public:
  // Parses the text and gives its variables memory and their first values.
  static absl::StatusOr<std::unique_ptr<LoadedModule>> Load(std::string_view ptx,
                                                            DeviceMemory* memory);

  // Decodes a kernel the first time. Null programs do not come out.
  absl::StatusOr<const Program*> Kernel(const std::string& name);
  struct Place {
    uint64_t address = 0, size = 0;
  };
  absl::StatusOr<Place> VariableNamed(std::string_view name) const;

 private:
  absl::Status PlaceVariables(DeviceMemory* memory);

  std::shared_ptr<const ptx::Module> module_;
  SymbolTable symbols_;
  std::map<std::string, std::unique_ptr<Program>> kernels_;
};

}  // namespace trireme::gpusim
