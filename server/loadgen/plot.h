// A result as a picture.
#pragma once

#include <string>
#include <string_view>

#include "server/loadgen/bench.h"

namespace trireme::loadgen {

// The file's bytes: an SVG where `path` ends in .svg, else a PNG. Of a run: token events over time,
// and latencies by percentile. Of a ramp: throughput and latency by load, with the knee.
std::string Plot(const BenchResult& result, std::string_view path);

}  // namespace trireme::loadgen
