// One step of an optimizer for many parameters in one launch.
//
// What the step does to one element is STEP, written by minigrad/optim/_update/kernel_text.py from the optimizer's
// formula; as the file stands here it is gradient descent. The arrays of a tensor are the parameter, its gradient and
// its buffers, in this order. All is computed in WIDE, and stored in the parameter's dtype.
#include "common.cuh"
#ifndef STEP
#define ARRAYS 2
#define NUMBERS 1
#define ROWS 1
#define TENSORS 64
#define STEP \
    T& p = a[0]; const T g = a[1]; \
    const T lr = x[0]; \
    p = p - lr * g;
#endif
#include "tensors.cuh"
#include "verdict.cuh"

typedef WIDE T;

namespace minigrad {  // as in NumPy, a NaN stays
template <typename T> __device__ T sign(T a) { return a > T(0) ? T(1) : a < T(0) ? T(-1) : a; }
template <typename T> __device__ T maximum(T a, T b) { return a >= b || a != a ? a : b; }
template <typename T> __device__ T minimum(T a, T b) { return a <= b || a != a ? a : b; }
}

// The numbers of a step, such as the learning rate. How many steps an optimizer has taken, and so what its numbers are,
// depends on how many were skipped, and the host learns that late. It sends a row of numbers for each possible answer.
struct Numbers {
    double known;  // how many skipped steps the host knows of; row k is for k more
    double rows[ROWS][1 + NUMBERS];  // whether this kernel is to do this step (1 or 0), and the numbers of STEP
};
#define ROW (1 + NUMBERS)

__device__ __forceinline__ void step(T* a, const T* x) { STEP }

extern "C" __global__ void update(
    Tensors tensors,
    Numbers numbers,
    const double* __restrict__ changing,  // null, or in a captured step: what to take in place of `numbers`
    const int* __restrict__ verdict,  // null, or what was found in the gradients (verdict.cuh)
    const float* __restrict__ scale)  // null, or what the loss, and so the gradient, was multiplied by
{
    if (verdict && verdict[SKIP]) return;
    const int known = (int)(changing ? changing[0] : numbers.known);
    const int row = verdict ? verdict[SKIPPED] - known : 0;
    if ((changing ? changing[1 + row * ROW] : numbers.rows[row][0]) == 0) return;
    T x[1 + NUMBERS];
    for (int k = 0; k < NUMBERS; k++)
        x[k] = (T)(changing ? changing[1 + row * ROW + 1 + k] : numbers.rows[row][1 + k]);
    const T unscale = scale ? (T)(1.0 / *scale) : T(1);

    const int t = my_tensor(tensors);
    const long long end = my_end(tensors, t);
    for (long long i = my_begin(tensors, t) + threadIdx.x; i < end; i += blockDim.x) {
        T a[ARRAYS];
        for (int k = 0; k < ARRAYS; k++) a[k] = wide(tensors.arrays[k][t][i]);
        a[1] *= unscale;
        step(a, x);
        for (int k = 0; k < ARRAYS; k++)
            if (k != 1) store(&tensors.arrays[k][t][i], a[k]);
    }
}
