// What training adds up, batch by batch: the loss, and how many predictions are right. A warp takes a row of the scores.
//
// The prediction of a row is its largest score; of equals the first, and NaN counts as larger than every number, as in
// NumPy. `totals` are four numbers: the losses, each times the number of labels that its mean was taken over; these
// numbers; how many predictions are right; and of how many labels, those that name a class.
#include "common.cuh"
#define WARPS 8

__device__ __forceinline__ bool comes_before(WIDE a, int at, WIDE b, int bt) {
    const bool nan = a != a, other_nan = b != b;
    if (nan != other_nan) return nan;
    return nan || a == b ? at < bt : a > b;
}

extern "C" __global__ void add_metrics(
    const REAL* __restrict__ scores, const long long* __restrict__ labels, long long rows, int classes,
    bool ignores, long long ignored, const WIDE* __restrict__ loss, bool is_sum,
    double* parts,      // (blocks, 3): labels that count, right ones, classified ones
    unsigned* arrived,  // a zero, and zero again afterwards
    double* totals)
{
    __shared__ double of_warp[WARPS][3];
    __shared__ bool last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    double counts[3] = {0, 0, 0};
    for (long long row = (long long)blockIdx.x * WARPS + warp; row < rows; row += (long long)gridDim.x * WARPS) {
        WIDE largest = -INFINITY;
        int at = classes;
        for (int c = lane; c < classes; c += 32) {
            const WIDE score = wide(scores[row * classes + c]);
            if (comes_before(score, c, largest, at)) largest = score, at = c;
        }
        for (int away = 16; away; away /= 2) {
            const WIDE other = __shfl_xor_sync(EVERY_LANE, largest, away);
            const int there = __shfl_xor_sync(EVERY_LANE, at, away);
            if (comes_before(other, there, largest, at)) largest = other, at = there;
        }
        const long long label = labels[row];
        const bool counted = !(ignores && label == ignored);
        counts[0] += counted;
        counts[1] += counted && label == at;
        counts[2] += counted && label >= 0 && label < classes;
    }
    if (lane < 3) of_warp[warp][lane] = counts[lane];
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int k = 0; k < 3; k++) {
            for (int w = 1; w < WARPS; w++) counts[k] += of_warp[w][k];
            parts[3 * blockIdx.x + k] = counts[k];
        }
        __threadfence();  // our part is to be seen before we are counted
        last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || warp > 0) return;
    __threadfence();
    for (int k = 0; k < 3; k++) {
        counts[k] = 0;
        for (int b = lane; b < (int)gridDim.x; b += 32) counts[k] += parts[3 * b + k];
        counts[k] = warp_sum(counts[k]);
    }
    if (lane > 0 || counts[0] == 0) return;  // a mean over no labels is NaN, and nothing to add
    totals[0] += is_sum ? *loss : *loss * counts[0];
    for (int k = 0; k < 3; k++) totals[1 + k] += counts[k];
}
