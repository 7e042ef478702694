// What all kernels share: numbers as they are stored and as they are computed with, and sums over a warp.
//
// REAL is the dtype of the arrays. WIDE is what is computed with: float, or double where REAL is double. So float16 and
// bfloat16 only ever lie in memory; a sum of a million of them is a sum of floats.
#pragma once
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#ifndef INFINITY  // CuPy compiles by NVRTC, which has no <math.h>
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ double wide(double x) { return x; }
__device__ __forceinline__ float wide(__half x) { return __half2float(x); }
__device__ __forceinline__ float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ void store(float* p, float x) { *p = x; }
__device__ __forceinline__ void store(double* p, double x) { *p = x; }
__device__ __forceinline__ void store(__half* p, float x) { *p = __float2half(x); }
__device__ __forceinline__ void store(__nv_bfloat16* p, float x) { *p = __float2bfloat16(x); }

#define EVERY_LANE 0xffffffffu

// The sum (or maximum) over the 32 lanes of a warp, in every lane: five exchanges with a lane 16, 8, 4, 2, 1 away.
template <class T> __device__ __forceinline__ T warp_sum(T x) {
    for (int away = 16; away; away /= 2) x += __shfl_xor_sync(EVERY_LANE, x, away);
    return x;
}
template <class T> __device__ __forceinline__ T warp_max(T x) {
    for (int away = 16; away; away /= 2) x = max(x, __shfl_xor_sync(EVERY_LANE, x, away));
    return x;
}
