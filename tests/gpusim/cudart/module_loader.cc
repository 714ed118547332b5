#include "tests/gpusim/cudart/module_loader.h"

#include <cstring>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "tests/gpusim/ptx/parser.h"

namespace trireme::gpusim {
namespace {

bool IsPlaced(const ptx::Variable& variable) {
  return (variable.space == ptx::Space::kGlobal || variable.space == ptx::Space::kConst) &&
         variable.size > 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadedModule>> LoadedModule::Load(std::string_view ptx,
                                                                 DeviceMemory* memory) {
  TRIREME_ASSIGN_OR_RETURN(ptx::Module module, ptx::Parse(ptx));
  auto loaded = std::make_unique<LoadedModule>();
  loaded->module_ = std::make_shared<ptx::Module>(std::move(module));
  TRIREME_RETURN_IF_ERROR(loaded->PlaceVariables(memory));
  return loaded;
}

absl::Status LoadedModule::PlaceVariables(DeviceMemory* memory) {
  for (const ptx::Variable& variable : module_->variables) {
    if (!IsPlaced(variable)) continue;
    TRIREME_ASSIGN_OR_RETURN(const uint64_t address, memory->Allocate(variable.size));
    symbols_[variable.name] = address;
    // What is not given is zero, as in C++.
    std::byte* const bytes = memory->Find(address, variable.size);
    std::memset(bytes, 0, variable.size);
    std::memcpy(bytes, variable.initial.data(), variable.initial.size());
    memory->SetDefined(address, variable.size);
  }
  for (const ptx::Variable& variable : module_->variables) {
    if (!IsPlaced(variable)) continue;
    for (const auto& pointer : variable.pointers) {
      const auto target = symbols_.find(pointer.symbol);
      if (target == symbols_.end()) {
        return absl::UnimplementedError(ToAbsl(StrCat("variable ", variable.name, " points to '",
                                                      pointer.symbol, "', which is no variable")));
      }
      const uint64_t value = target->second + static_cast<uint64_t>(pointer.addend);
      std::memcpy(memory->Find(symbols_[variable.name] + pointer.offset, sizeof(value)), &value,
                  sizeof(value));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<const Program*> LoadedModule::Kernel(const std::string& name) {
  auto& program = kernels_[name];
  if (program != nullptr) return program.get();
  for (const ptx::Function& function : module_->functions) {
    if (!function.is_entry || function.name != name) continue;
    TRIREME_ASSIGN_OR_RETURN(program, Decode(module_, function, symbols_));
    return program.get();
  }
  return absl::NotFoundError(ToAbsl(StrCat("the module has no kernel ", name)));
}

absl::StatusOr<LoadedModule::Place> LoadedModule::VariableNamed(std::string_view name) const {
  for (const ptx::Variable& variable : module_->variables) {
    if (variable.name == name && IsPlaced(variable)) {
      return Place{symbols_.find(name)->second, variable.size};
    }
  }
  return absl::NotFoundError(ToAbsl(StrCat("the module has no variable ", name)));
}

}  // namespace trireme::gpusim
