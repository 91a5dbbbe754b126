// E-steps as one writes them in C++ in an hour: rows one after the other, plain loops, no checks, no wide exponents.
// Arrays are contiguous. Impossible labels and logits that underflow give NaN here.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

namespace {

// Probabilities of n symbols of k values.
template <typename Number>
void softmax(const float* logits, int n, int k, Number* p) {
  for (int i = 0; i < n; ++i) {
    Number largest = logits[i * k], total = 0;
    for (int v = 1; v < k; ++v) largest = std::max(largest, Number(logits[i * k + v]));
    for (int v = 0; v < k; ++v) total += p[i * k + v] = std::exp(Number(logits[i * k + v]) - largest);
    for (int v = 0; v < k; ++v) p[i * k + v] /= total;
  }
}

// Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
void philox(const uint32_t counter[4], uint64_t seed, uint32_t out[4]) {
  uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t x = uint64_t(0xD2511F53u) * a, y = uint64_t(0xCD9E8D57u) * c;
    a = uint32_t(y >> 32) ^ b ^ k0, b = uint32_t(y), c = uint32_t(x >> 32) ^ d ^ k1, d = uint32_t(x);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

}  // namespace

extern "C" {

// Two numbers of n decimal digits. logits, marginals [batch, 2, n, 10]; label [batch, n + 1].
void addition(const float* logits, const int64_t* label, int batch, int n, float* marginals, float* log_evidence) {
  std::vector<float> p(2 * n * 10), alpha(2 * (n + 1)), transfer(4 * n);
  for (int row = 0; row < batch; ++row, logits += 20 * n, label += n + 1, marginals += 20 * n) {
    softmax(logits, 2 * n, 10, p.data());
    const float *x = p.data(), *y = x + 10 * n;
    float scale = 0.0f;
    alpha[2 * n] = 1.0f, alpha[2 * n + 1] = 0.0f;
    for (int i = n - 1; i >= 0; --i) {
      const int digit = int(label[i + 1]);
      float* t = &transfer[4 * i];
      for (int carry = 0; carry < 2; ++carry) {
        t[2 * carry] = t[2 * carry + 1] = 0.0f;
        for (int u = 0; u < 10; ++u) {
          const int rest = digit - u - carry, out = rest < 0;
          t[2 * carry + out] += x[10 * i + u] * y[10 * i + rest + 10 * out];
        }
      }
      const float zero = alpha[2 * i + 2] * t[0] + alpha[2 * i + 3] * t[2];
      const float one = alpha[2 * i + 2] * t[1] + alpha[2 * i + 3] * t[3];
      scale += std::log(zero + one);
      alpha[2 * i] = zero / (zero + one), alpha[2 * i + 1] = one / (zero + one);
    }
    float beta[2] = {label[0] == 0 ? 1.0f : 0.0f, label[0] == 1 ? 1.0f : 0.0f};
    log_evidence[row] = scale + std::log(alpha[0] * beta[0] + alpha[1] * beta[1]);
    for (int i = 0; i < n; ++i) {
      const int digit = int(label[i + 1]);
      float *first = marginals + 10 * i, *second = marginals + 10 * (n + i), total = 0.0f;
      std::fill(first, first + 10, 0.0f), std::fill(second, second + 10, 0.0f);
      for (int carry = 0; carry < 2; ++carry)
        for (int u = 0; u < 10; ++u) {
          const int rest = digit - u - carry, out = rest < 0, v = rest + 10 * out;
          const float weight = alpha[2 * i + 2 + carry] * x[10 * i + u] * y[10 * i + v] * beta[out];
          first[u] += weight, second[v] += weight, total += weight;
        }
      for (int v = 0; v < 10; ++v) first[v] /= total, second[v] /= total;
      const float* t = &transfer[4 * i];
      const float zero = t[0] * beta[0] + t[1] * beta[1], one = t[2] * beta[0] + t[3] * beta[1];
      beta[0] = zero / (zero + one), beta[1] = one / (zero + one);
    }
  }
}

// A list of valid assignments uint8 [m, n]. logits, marginals [batch, n, k].
void enumeration(const float* logits, const uint8_t* list, int batch, int m, int n, int k, float* marginals,
                 float* log_evidence) {
  std::vector<float> p(n * k);
  for (int row = 0; row < batch; ++row, logits += n * k, marginals += n * k) {
    softmax(logits, n, k, p.data());
    std::fill(marginals, marginals + n * k, 0.0f);
    float total = 0.0f;
    for (int a = 0; a < m; ++a) {
      const uint8_t* z = list + a * n;
      float weight = 1.0f;
      for (int i = 0; i < n; ++i) weight *= p[i * k + z[i]];
      for (int i = 0; i < n; ++i) marginals[i * k + z[i]] += weight;
      total += weight;
    }
    for (int i = 0; i < n * k; ++i) marginals[i] /= total;
    log_evidence[row] = std::log(total);
  }
}

// Serial sweeps of sum-product over groups int32 [n_groups, k] of k symbols that take k different values, phase by
// phase, k <= 16. logits, marginals [batch, n, k].
void belief_propagation(const float* logits, const int32_t* groups, const int32_t* phases, int batch, int n, int k,
                        int n_groups, int n_phases, int sweeps, float* marginals) {
  std::vector<float> p(n * k), product(n * k), message(n_groups * k * k), in(k * k), before(1 << k), after(1 << k);
  for (int row = 0; row < batch; ++row, logits += n * k, marginals += n * k) {
    softmax(logits, n, k, p.data());
    product = p;
    std::fill(message.begin(), message.end(), 1.0f);
    for (int sweep = 0; sweep < sweeps; ++sweep)
      for (int phase = 0, first = 0; phase < n_phases; first += phases[phase++])
        for (int g = first; g < first + phases[phase]; ++g) {
          const int32_t* member = groups + g * k;
          float* out = &message[g * k * k];
          for (int i = 0; i < k; ++i) {
            float total = 0.0f;
            for (int v = 0; v < k; ++v) total += in[i * k + v] = product[member[i] * k + v] / out[i * k + v];
            for (int v = 0; v < k; ++v) in[i * k + v] /= total;
          }
          std::fill(before.begin(), before.end(), 0.0f);
          before[0] = 1.0f;
          for (int set = 1; set < 1 << k; ++set) {
            const float* row_of = &in[(__builtin_popcount(set) - 1) * k];
            for (int rest = set; rest; rest &= rest - 1) {
              const int v = __builtin_ctz(rest);
              before[set] += before[set ^ 1 << v] * row_of[v];
            }
          }
          std::fill(out, out + k * k, 0.0f);
          const int all = (1 << k) - 1;
          after[all] = 1.0f;
          for (int set = all - 1; set >= 0; --set) {
            const int i = __builtin_popcount(set);
            float total = 0.0f;
            for (int rest = all ^ set; rest; rest &= rest - 1) {
              const int v = __builtin_ctz(rest);
              out[i * k + v] += before[set] * after[set | 1 << v];
              total += in[i * k + v] * after[set | 1 << v];
            }
            after[set] = total;
          }
          for (int i = 0; i < k; ++i) {
            float total = 0.0f, sum = 0.0f;
            for (int v = 0; v < k; ++v) total += out[i * k + v];
            for (int v = 0; v < k; ++v) out[i * k + v] = std::max(out[i * k + v] / total, 1e-30f);
            float* own = &product[member[i] * k];
            for (int v = 0; v < k; ++v) sum += own[v] = in[i * k + v] * out[i * k + v];
            for (int v = 0; v < k; ++v) own[v] /= sum;
          }
        }
    std::copy(product.begin(), product.end(), marginals);
  }
}

// Samples of the prior, weighted by the share of the groups int32 [n_groups, width] whose members differ.
void abc(const float* logits, const int32_t* groups, int batch, int n, int k, int n_groups, int width, int samples,
         uint64_t seed, float* marginals) {
  std::vector<double> p(n * k);
  std::vector<uint32_t> threshold(n * k);
  std::vector<int> z(n);
  std::vector<double> total(n * k);
  for (int row = 0; row < batch; ++row, logits += n * k, marginals += n * k) {
    softmax(logits, n, k, p.data());
    for (int i = 0; i < n; ++i) {
      double sum = 0.0;
      for (int v = 0; v < k - 1; ++v) threshold[i * k + v] = uint32_t(std::lround((sum += p[i * k + v]) * 2147483648.0));
    }
    std::fill(total.begin(), total.end(), 0.0);
    double sum = 0.0;
    for (int s = 0; s < samples; ++s) {
      for (int i = 0; i < n; i += 4) {
        const uint32_t counter[4] = {uint32_t(i / 4), uint32_t(s), uint32_t(row), 0};
        uint32_t words[4];
        philox(counter, seed, words);
        for (int j = i; j < std::min(n, i + 4); ++j) {
          z[j] = 0;
          for (int v = 0; v < k - 1; ++v) z[j] += (words[j - i] >> 1) >= threshold[j * k + v];
        }
      }
      int satisfied = 0;
      for (int g = 0; g < n_groups; ++g) {
        int seen = 0;
        for (int j = 0; j < width; ++j) seen |= 1 << z[groups[g * width + j]];
        satisfied += __builtin_popcount(seen) == width;
      }
      const double weight = double(satisfied) / n_groups;
      for (int i = 0; i < n; ++i) total[i * k + z[i]] += weight;
      sum += weight;
    }
    for (int i = 0; i < n * k; ++i) marginals[i] = float(total[i] / sum);
  }
}

// The cheapest path from the first to the last cell over the 8 neighbours, by Dijkstra. costs int32, at least 1;
// mask uint8; both [batch, height, width].
void shortest_path(const int32_t* costs, int batch, int height, int width, uint8_t* mask) {
  const int cells = height * width, side = width + 2;
  std::vector<int> distance((height + 2) * side), cost(distance.size());
  for (int row = 0; row < batch; ++row, costs += cells, mask += cells) {
    std::fill(distance.begin(), distance.end(), INT32_MAX);
    std::fill(cost.begin(), cost.end(), -1);
    for (int i = 0; i < height; ++i) std::copy(costs + i * width, costs + (i + 1) * width, &cost[(i + 1) * side + 1]);
    const int start = side + 1, goal = height * side + width;
    const int steps[8] = {-side - 1, -side, -side + 1, -1, 1, side - 1, side, side + 1};
    using Entry = std::pair<int, int>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> queue;
    queue.push({distance[start] = cost[start], start});
    while (!queue.empty()) {
      const auto [d, cell] = queue.top();
      queue.pop();
      if (cell == goal) break;
      if (d > distance[cell]) continue;
      for (int step : steps) {
        const int next = cell + step;
        if (cost[next] >= 0 && d + cost[next] < distance[next]) queue.push({distance[next] = d + cost[next], next});
      }
    }
    std::fill(mask, mask + cells, 0);
    for (int cell = goal;;) {
      mask[(cell / side - 1) * width + cell % side - 1] = 1;
      if (cell == start) break;
      const int wanted = distance[cell] - cost[cell];
      for (int step : steps)
        if (distance[cell + step] == wanted) {
          cell += step;
          break;
        }
    }
  }
}

// An automaton with next states int32 [states, k], the same at every position; it starts in state 0, and the label is
// the last state. logits, marginals [batch, n, k].
void automaton(const float* logits, const int64_t* label, const int32_t* next, int batch, int n, int k, int states,
               float* marginals, float* log_evidence) {
  std::vector<float> p(n * k), alpha((n + 1) * states), beta(states), ahead(states);
  for (int row = 0; row < batch; ++row, logits += n * k, marginals += n * k) {
    softmax(logits, n, k, p.data());
    std::fill(alpha.begin(), alpha.end(), 0.0f);
    alpha[0] = 1.0f;
    float scale = 0.0f;
    for (int i = 0; i < n; ++i) {
      float *from = &alpha[i * states], *to = from + states, total = 0.0f;
      for (int s = 0; s < states; ++s)
        for (int v = 0; v < k; ++v) to[next[s * k + v]] += from[s] * p[i * k + v];
      for (int s = 0; s < states; ++s) total += to[s];
      for (int s = 0; s < states; ++s) to[s] /= total;
      scale += std::log(total);
    }
    std::fill(beta.begin(), beta.end(), 0.0f);
    beta[label[row]] = 1.0f;
    log_evidence[row] = scale + std::log(alpha[n * states + label[row]]);
    for (int i = n - 1; i >= 0; --i) {
      float sum = 0.0f, largest = 0.0f;
      for (int v = 0; v < k; ++v) {
        float weight = 0.0f;
        for (int s = 0; s < states; ++s) weight += alpha[i * states + s] * beta[next[s * k + v]];
        sum += marginals[i * k + v] = weight * p[i * k + v];
      }
      for (int v = 0; v < k; ++v) marginals[i * k + v] /= sum;
      for (int s = 0; s < states; ++s) {
        ahead[s] = 0.0f;
        for (int v = 0; v < k; ++v) ahead[s] += p[i * k + v] * beta[next[s * k + v]];
        largest = std::max(largest, ahead[s]);
      }
      for (int s = 0; s < states; ++s) beta[s] = ahead[s] / largest;
    }
  }
}

}  // extern "C"
