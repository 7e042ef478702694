// Work on a matrix (rows, channels), a row a pixel, that is shared out by channels; and sums over all rows of a channel.
//
// A warp reads memory fastest when its 32 lanes read 32 neighbours, so lanes lie along the channels, and a block, of 8
// warps, takes 32 channels (blockIdx.x). Where there are fewer, several rows lie side by side in a warp: `lanes`, a power
// of two, of its lanes belong to a row. The rows are shared out among the warps of a block and among the blocks along y,
// so that there is work for every multiprocessor.
#pragma once
#include "common.cuh"
#define WARPS 8

// The channel of a thread, its first row, and how far apart its rows are.
struct Share {
    int channel;
    long long row, step;
};

__device__ __forceinline__ Share my_share(int lanes) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, abreast = 32 / lanes;
    return {
        (int)blockIdx.x * lanes + lane % lanes,
        ((long long)blockIdx.y * WARPS + warp) * abreast + lane / lanes,
        (long long)gridDim.y * WARPS * abreast,
    };
}

__device__ __forceinline__ WIDE joined(WIDE a, WIDE b) { return a + b; }
__device__ __forceinline__ WIDE from_lane(WIDE a, int away) { return __shfl_xor_sync(EVERY_LANE, a, away); }

struct Two { WIDE first, second; };  // two sums at once

__device__ __forceinline__ Two joined(Two a, Two b) { return {a.first + b.first, a.second + b.second}; }
__device__ __forceinline__ Two from_lane(Two a, int away) { return {from_lane(a.first, away), from_lane(a.second, away)}; }

// The shared memory in which the threads of a block meet; each kernel that calls `join_rows` declares one.
template <class T> struct Meeting {
    T of_warp[WARPS][32];
    bool last;  // whether this block is the last of those along y
};

// Joins what all threads of the grid have of a channel: true for one thread a channel, in whose `mine` it all is then.
//
// T says how two parts are joined, `joined(a, b)`, and how one is fetched from another lane, `from_lane(a, away)`. First
// the lanes of a warp, by exchanges; then the warps of a block, through shared memory; then the blocks, through `parts`,
// (blocks along y, channels), in global memory. The block that comes last does that, always in the same order, so that
// the result is the same in every run. `arrived` holds a zero for each block along x, and does so again afterwards.
template <class T>
__device__ __forceinline__ bool join_rows(
    T& mine, int lanes, int channels, T* parts, unsigned* arrived, Meeting<T>& meeting)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, channel = blockIdx.x * lanes + lane % lanes;
    for (int away = lanes; away < 32; away *= 2) mine = joined(mine, from_lane(mine, away));
    meeting.of_warp[warp][lane] = mine;
    __syncthreads();
    const bool writes = warp == 0 && lane < lanes && channel < channels;
    if (writes) {
        for (int w = 1; w < WARPS; w++) mine = joined(mine, meeting.of_warp[w][lane]);
        parts[(long long)blockIdx.y * channels + channel] = mine;
        __threadfence();  // our part is to be seen before we are counted
    }
    __syncthreads();
    if (threadIdx.x == 0) meeting.last = atomicInc(&arrived[blockIdx.x], gridDim.y - 1) == gridDim.y - 1;
    __syncthreads();
    if (!meeting.last || !writes) return false;
    __threadfence();
    mine = parts[channel];
    for (int b = 1; b < (int)gridDim.y; b++) mine = joined(mine, parts[(long long)b * channels + channel]);
    return true;
}
