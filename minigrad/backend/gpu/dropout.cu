// Dropout: y = x * factor, where the factor of an element is 0 with probability p, else 1 / (1 - p).
//
// Whether an element is dropped follows from its number and from the call's place in the stream of random numbers
// (philox.cuh). Nothing is stored: the backward pass calls the same kernel with the gradient, at the same place. A warp
// takes 128 elements: each lane draws four words at once, for elements 32 apart, so that lanes side by side read and
// write neighbours.
#include "common.cuh"
#include "philox.cuh"

extern "C" __global__ void dropout(
    const REAL* __restrict__ x,  // null: the factors themselves
    long long size,
    unsigned long long seed, unsigned long long position,
    const unsigned long long* __restrict__ changing,  // null, or in a captured step: its seed and position
    unsigned long long threshold,  // p * 2^32: an element is dropped if its word is smaller
    WIDE factor,  // 1 / (1 - p)
    REAL* __restrict__ y)
{
    if (changing) seed = changing[0], position = changing[1];
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x; t / 32 * 128 < size; t += step) {
        const Random4 random = philox(t, position, seed);
        for (int k = 0; k < 4; k++) {
            const long long i = t / 32 * 128 + k * 32 + t % 32;
            if (i >= size) break;
            const WIDE mine = random.words[k] >= threshold ? factor : 0;
            store(&y[i], x ? wide(x[i]) * mine : mine);
        }
    }
}
