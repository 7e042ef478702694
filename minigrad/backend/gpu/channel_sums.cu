// The sum of each channel: what a bias's gradient is. x is a matrix (rows, channels), a row is a pixel.
//
// A warp reads memory fastest when its 32 lanes read 32 neighbours, so lanes lie along the channels, and a block, of
// 8 warps, takes 32 channels (blockIdx.x). Where there are fewer, `abreast` rows lie side by side in a warp: `lanes`, a
// power of two, of its lanes belong to a row. The rows are shared out among the warps of a block and among the blocks
// along y, so that there is work for every multiprocessor. Each block leaves its part of the sum in `parts`; the one
// that comes last adds the parts up, always in the same order: the result is the same in every run.
#include "common.cuh"
#define WARPS 8

extern "C" __global__ void channel_sum(
    const REAL* __restrict__ x, long long rows, int channels, int lanes,
    WIDE* parts,        // (blocks along y, channels)
    unsigned* arrived,  // (blocks along x,): zeros, and zeros again afterwards
    REAL* __restrict__ sums)
{
    __shared__ WIDE of_warp[WARPS][32];
    __shared__ bool last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, abreast = 32 / lanes;
    const int channel = blockIdx.x * lanes + lane % lanes;

    WIDE mine = 0;
    if (channel < channels)
        for (long long r = ((long long)blockIdx.y * WARPS + warp) * abreast + lane / lanes; r < rows;
             r += (long long)gridDim.y * WARPS * abreast)
            mine += wide(x[r * channels + channel]);
    for (int away = lanes; away < 32; away *= 2) mine += __shfl_xor_sync(EVERY_LANE, mine, away);
    of_warp[warp][lane] = mine;
    __syncthreads();
    const bool writes = warp == 0 && lane < lanes && channel < channels;
    if (writes) {
        for (int w = 1; w < WARPS; w++) mine += of_warp[w][lane];
        parts[(long long)blockIdx.y * channels + channel] = mine;
        __threadfence();  // our part is to be seen before we are counted
    }
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(&arrived[blockIdx.x], gridDim.y - 1) == gridDim.y - 1;
    __syncthreads();
    if (!last || !writes) return;

    __threadfence();
    WIDE all = 0;
    for (int b = 0; b < (int)gridDim.y; b++) all += parts[(long long)b * channels + channel];
    store(&sums[channel], all);
}
