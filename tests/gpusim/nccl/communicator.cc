#include "tests/gpusim/nccl/communicator.h"

#include <cstdio>
#include <utility>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

std::mutex last_error_mu;
std::string last_error;  // guarded by last_error_mu; of the process, as NCCL's

}  // namespace

void Communicator::Fail(ncclResult_t error, std::string what) {
  ncclResult_t none = ncclSuccess;
  if (!async_error.compare_exchange_strong(none, error)) return;
  ExplainNccl(error, StrCat("rank ", rank, ": ", what));
}

ncclResult_t ExplainNccl(ncclResult_t error, std::string what) {
  std::fprintf(stderr, "gpusim: nccl: %s: %s\n", ncclGetErrorString(error), what.c_str());
  std::lock_guard lock(last_error_mu);
  last_error = std::move(what);
  return error;
}

std::string LastNcclError() {
  std::lock_guard lock(last_error_mu);
  return last_error;
}

}  // namespace trireme::gpusim
