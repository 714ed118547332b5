#include "server/ranks/group_environment.h"

#include <charconv>
#include <initializer_list>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr int kMaxNodes = 1 << 16;

struct Variable {
  const char* name;
  std::optional<std::string> value;
};

// The first of these that is set, else the last.
Variable Read(const EnvironmentReader& environment, std::initializer_list<const char*> names) {
  Variable variable = {};
  for (const char* name : names) {
    variable = {name, environment(name)};
    if (variable.value) break;
  }
  return variable;
}

absl::Status Bad(const Variable& variable, std::string_view wants) {
  return absl::InvalidArgumentError(
      StrCat(variable.name, variable.value ? StrCat("=", Printable(*variable.value)) : " (not set)",
             ": wants ", wants, "; or give --nnodes, --node-rank and --leader"));
}

absl::StatusOr<int> Number(const Variable& variable) {
  const std::string text = variable.value.value_or("");
  int number = -1;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || number < 0 ||
      number > kMaxNodes) {
    return Bad(variable, "a number of nodes");
  }
  return number;
}

}  // namespace

absl::StatusOr<std::string> FirstHost(std::string_view list) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(StrCat("\"", Printable(list), "\" is no list of hosts"));
  };
  const size_t end = list.find_first_of("[,");
  std::string host(list.substr(0, end));
  if (end != list.npos && list[end] == '[') {
    const std::string_view numbers = list.substr(end + 1);
    const size_t digits = numbers.find_first_not_of("0123456789");
    if (digits == 0 || digits == numbers.npos ||
        std::string_view("-,]").find(numbers[digits]) == std::string_view::npos) {
      return bad();
    }
    host += numbers.substr(0, digits);
    // What follows the bracket belongs to the name, too: "n[1-2]-ib".
    const size_t close = numbers.find(']');
    if (close == numbers.npos) return bad();
    const std::string_view rest = numbers.substr(close + 1);
    const size_t suffix = rest.find_first_of("[,");
    if (suffix != rest.npos && rest[suffix] == '[') return bad();  // two brackets in one name
    host += rest.substr(0, suffix);
  }
  if (host.empty()) return bad();
  return host;
}

absl::Status UseGroupEnvironment(const EnvironmentReader& environment, RankGroupOptions* options) {
  if (options->num_nodes > 0) return absl::OkStatus();
  Variable size = Read(environment, {"LWS_GROUP_SIZE"});
  Variable index = Read(environment, {"LWS_WORKER_INDEX"});
  Variable leader = Read(environment, {"LWS_LEADER_ADDRESS"});
  const bool slurm = !leader.value;
  if (slurm) {
    size = Read(environment, {"SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"});
    index = Read(environment, {"SLURM_NODEID"});
    leader = Read(environment, {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"});
    if (!size.value || !leader.value) return absl::OkStatus();  // neither of them
  }
  TRIREME_ASSIGN_OR_RETURN(options->num_nodes, Number(size));
  if (options->alone()) return absl::OkStatus();
  if (options->node_rank < 0) {
    TRIREME_ASSIGN_OR_RETURN(options->node_rank, Number(index));
  }
  if (!options->leader.empty()) return absl::OkStatus();
  options->leader = *leader.value;
  if (slurm) {
    auto host = FirstHost(*leader.value);
    if (!host.ok()) return Annotate(host.status(), leader.name);
    options->leader = *std::move(host);
  }
  return absl::OkStatus();
}

}  // namespace trireme
