// What the sampler means, in double precision and as plainly as possible: full sorts, nothing in
// place.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "runtime/engine/request.h"

namespace trireme {

inline constexpr double kNaiveInfinity = std::numeric_limits<double>::infinity();

inline std::vector<double> NaiveAdjusted(const SamplingParams& params,
                                         const std::vector<TokenId>& prompt,
                                         const std::vector<TokenId>& output,
                                         const std::vector<TokenId>& banned,
                                         const std::vector<float>& logits) {
  std::vector<double> l(logits.begin(), logits.end());
  for (const auto& [id, bias] : params.logit_bias) l[id] += bias <= -100 ? -kNaiveInfinity : bias;
  for (const TokenId id : banned) l[id] = -kNaiveInfinity;
  std::map<TokenId, int> output_counts;
  for (const TokenId id : output) ++output_counts[id];
  std::set<TokenId> seen(prompt.begin(), prompt.end());
  seen.insert(output.begin(), output.end());
  for (const TokenId id : seen) {
    l[id] = l[id] > 0 ? l[id] / params.repetition_penalty : l[id] * params.repetition_penalty;
  }
  for (const auto& [id, count] : output_counts) {
    l[id] -= params.presence_penalty + double{params.frequency_penalty} * count;
  }
  return l;
}

inline void Normalise(std::vector<double>* p) {
  const double total = std::accumulate(p->begin(), p->end(), 0.0);
  for (double& x : *p) x /= total;
}

inline std::vector<double> NaiveSoftmax(const std::vector<double>& l, double temperature) {
  const double max = *std::max_element(l.begin(), l.end());
  std::vector<double> p;
  for (const double x : l) p.push_back(std::exp((x - max) / temperature));
  Normalise(&p);
  return p;
}

// Keeps the shortest run, in the order of `score` (lowest first, ties by id), with `count` tokens
// or `mass`.
inline void NaiveKeep(std::vector<double>* p, const std::vector<double>& score, size_t count,
                      double mass) {
  std::vector<int> order;
  for (size_t i = 0; i < p->size(); ++i) {
    if ((*p)[i] > 0) order.push_back(static_cast<int>(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return score[a] < score[b]; });
  std::vector<double> kept(p->size(), 0.0);
  double sum = 0;
  for (size_t i = 0; i < order.size() && i < count && (i == 0 || sum < mass); ++i) {
    kept[order[i]] = (*p)[order[i]];
    sum += (*p)[order[i]];
  }
  *p = kept;
  Normalise(p);
}

// The distribution that the draw is made from.
inline std::vector<double> NaiveDistribution(const SamplingParams& params,
                                             const std::vector<double>& adjusted) {
  std::vector<double> p = NaiveSoftmax(adjusted, params.temperature);
  const double most = *std::max_element(p.begin(), p.end());
  for (double& x : p) x = x < double{params.min_p} * most ? 0 : x;
  Normalise(&p);
  const auto negated = [&] {
    std::vector<double> score;
    for (const double x : p) score.push_back(-x);
    return score;
  };
  if (params.top_k > 0) NaiveKeep(&p, negated(), params.top_k, kNaiveInfinity);
  if (params.typical_p < 1) {
    double entropy = 0;
    for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    std::vector<double> score;
    for (const double x : p) score.push_back(std::abs(-std::log(x) - entropy));
    NaiveKeep(&p, score, p.size(), params.typical_p);
  }
  if (params.top_p < 1) NaiveKeep(&p, negated(), p.size(), params.top_p);
  return p;
}

}  // namespace trireme
