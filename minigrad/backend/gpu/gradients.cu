// What is done to all gradients in one launch: looking for NaN and infinities, their norm, clipping, taking out a scale.
//
// A tensor is a gradient and, for kernels that write, the array for what becomes of it. A launch without tensors, of one
// block, has zeros in their place: a tensor of size 0.
#include "common.cuh"
#ifndef ARRAYS
#define ARRAYS 2
#define TENSORS 64
#endif
#include "tensors.cuh"
#include "verdict.cuh"

// Whether the calling block is the last of its launch to get here. `counter` is 0 before and afterwards.
__device__ __forceinline__ bool comes_last(unsigned* counter) {
    __shared__ bool last;
    __threadfence();  // what this block has written is seen by the one that comes last
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    __threadfence();  // and what the others have written is read after this
    return last;
}

// The verdict on all gradients. There may be several launches, of which the last one (`final`) passes it.
extern "C" __global__ void look_for_nonfinite(
    Tensors tensors,
    const int* __restrict__ known,  // null, or a verdict that was passed on these gradients before
    bool final,
    int* verdict, unsigned* counter)
{
    const int t = my_tensor(tensors);
    const long long end = my_end(tensors, t);
    bool found = false;
    for (long long i = my_begin(tensors, t) + threadIdx.x; i < end; i += blockDim.x)
        found |= !isfinite(wide(tensors.arrays[0][t][i]));
    if (found) verdict[FOUND] = 1;  // all who write, write the same
    if (!final || !comes_last(counter) || threadIdx.x) return;
    const int skip = atomicExch(&verdict[FOUND], 0) | (known ? known[SKIP] : 0);
    verdict[SKIP] = skip;
    verdict[SKIPPED] += skip;
}

// The root of the sum of all squares, taken in double. Each block writes its part; the block that comes last in the
// final launch adds them up in their order, so that the result is the same every time.
extern "C" __global__ void norm_of_all(
    Tensors tensors, int first_part, bool final, double* parts, unsigned* counter, WIDE* __restrict__ result)
{
    __shared__ double of_warp[32];
    const int warps = blockDim.x / 32;
    double sum = 0;
    const int t = my_tensor(tensors);
    const long long end = my_end(tensors, t);
    for (long long i = my_begin(tensors, t) + threadIdx.x; i < end; i += blockDim.x) {
        const double x = wide(tensors.arrays[0][t][i]);
        sum += x * x;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0;
        for (int w = 0; w < warps; w++) sum += of_warp[w];
        parts[first_part + blockIdx.x] = sum;
    }
    if (!final || !comes_last(counter)) return;
    sum = 0;
    for (int i = threadIdx.x; i < first_part + (int)gridDim.x; i += blockDim.x) sum += ((volatile double*)parts)[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    sum = 0;
    for (int w = 0; w < warps; w++) sum += of_warp[w];
    *result = (WIDE)sqrt(sum);
}

__device__ __forceinline__ void multiply(const Tensors& tensors, WIDE factor) {
    const int t = my_tensor(tensors);
    const long long end = my_end(tensors, t);
    for (long long i = my_begin(tensors, t) + threadIdx.x; i < end; i += blockDim.x)
        store(&tensors.arrays[1][t][i], wide(tensors.arrays[0][t][i]) * factor);
}

// Times max_norm / (norm + eps), if that is less than 1. `lowest` is max_norm, or a little more than 0: no 0 / 0.
extern "C" __global__ void clip_by_norm(
    Tensors tensors, const WIDE* __restrict__ norm, WIDE max_norm, WIDE eps, WIDE lowest)
{
    const WIDE size = *norm + eps;
    multiply(tensors, max_norm / (size < lowest ? lowest : size));  // a NaN stays
}

// Divided by the scale of the loss.
extern "C" __global__ void unscale(Tensors tensors, const float* __restrict__ scale) {
    multiply(tensors, (WIDE)(1.0 / *scale));
}

extern "C" __global__ void clip_by_value(Tensors tensors, WIDE limit) {
    const int t = my_tensor(tensors);
    const long long end = my_end(tensors, t);
    for (long long i = my_begin(tensors, t) + threadIdx.x; i < end; i += blockDim.x) {
        const WIDE x = wide(tensors.arrays[0][t][i]);
        store(&tensors.arrays[1][t][i], x < -limit ? -limit : x > limit ? limit : x);  // a NaN stays
    }
}

// The scale of a loss after a step: smaller after an overflow, larger after `interval` steps without one.
extern "C" __global__ void update_scale(
    float* scale, int* tracker, const int* __restrict__ verdict, float growth, float backoff, int interval)
{
    if (verdict[SKIP]) {
        *scale *= backoff;
        *tracker = 0;
    } else if (*tracker + 1 == interval) {
        if (isfinite(*scale * growth)) *scale *= growth;
        *tracker = 0;
    } else *tracker += 1;
}
