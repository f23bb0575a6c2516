#include "operators/softmax/problem.h"

namespace sieve::softmax {

Kernels<ForwardPlan> forward_kernels() {
  return {nullptr, 0};
}

}  // namespace sieve::softmax
