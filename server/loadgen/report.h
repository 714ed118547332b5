// A result for people and for machines.
#pragma once

#include <string>

#include "server/loadgen/bench.h"

namespace trireme::loadgen {

// The version of the JSON report's form; a field that changes its meaning raises it.
inline constexpr int kReportFormat = 1;

// One JSON object, indented, with a line break at its end. Times in milliseconds, rates a second.
std::string JsonReport(const BenchOptions& options, const BenchResult& result);

// The same as a table of a few lines.
std::string TextReport(const BenchOptions& options, const BenchResult& result);

// "concurrency 8" or "rate 2.5/s".
std::string LevelName(const Level& level);

}  // namespace trireme::loadgen
