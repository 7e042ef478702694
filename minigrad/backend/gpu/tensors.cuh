// Many arrays in one launch: where they lie is passed by value, as the arguments of a launch may take 4,096 bytes.
//
// The blocks of a launch are dealt out to the tensors in turn: tensor t has the blocks from first_block[t] on, as many as
// its size needs. A tensor may be several arrays of one size and order in memory, such as a parameter, its gradient and
// its buffers: ARRAYS of them. TENSORS is how many tensors there is room for.
#pragma once
#define PER_BLOCK 1024  // elements; as in many_tensors.py

struct Tensors {
    REAL* arrays[ARRAYS][TENSORS];
    long long size[TENSORS];
    int first_block[TENSORS];
    int count;
};

// Which tensor this block works on: the last one whose first block does not lie behind it, found by bisection.
__device__ __forceinline__ int my_tensor(const Tensors& tensors) {
    int t = 0, above = tensors.count;
    while (above - t > 1) {
        const int middle = (t + above) / 2;
        if (tensors.first_block[middle] <= (int)blockIdx.x) t = middle; else above = middle;
    }
    return t;
}

// The elements of tensor t from this block's first one on, up to `my_end`.
__device__ __forceinline__ long long my_begin(const Tensors& tensors, int t) {
    return (long long)(blockIdx.x - tensors.first_block[t]) * PER_BLOCK;
}
__device__ __forceinline__ long long my_end(const Tensors& tensors, int t) {
    const long long end = my_begin(tensors, t) + PER_BLOCK;
    return end < tensors.size[t] ? end : tensors.size[t];
}
