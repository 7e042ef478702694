// Softmax and cross-entropy of scores (rows, classes) with a label for each row: the losses, and softmax - truth, which
// is what the backward needs. A warp takes a row.
//
// With labels smoothed by s, the truth is 1 - s for the label and s / classes for every class. A row whose label is
// `ignored` has no loss and does not count. A row whose label names no class has the loss NaN, and the first such label
// goes into the record of faults (see faults.py), because nobody waits here to raise an error.
//
// Nothing cancels: the sum of the powers is 1, which is the largest score's, and `rest`. So the loss of a row that is
// nearly certain, log1p(rest), keeps its digits, and so does its slope, -others / (1 + rest).
#include "common.cuh"
#define WARPS 8
#define NONE 0  // what becomes of the losses of the rows
#define SUM 1
#define MEAN 2

extern "C" __global__ void softmax_cross_entropy(
    const REAL* __restrict__ scores, const long long* __restrict__ labels, long long rows, int classes, WIDE smoothing,
    bool ignores, long long ignored, int reduction,
    WIDE* __restrict__ slopes,   // (rows, classes): softmax - truth
    REAL* __restrict__ losses,   // (rows,), or a single one
    WIDE* __restrict__ counted,  // how many rows count
    WIDE* parts,                 // (blocks, 2): of each block the sum of its losses, and how many rows count
    unsigned* arrived,           // a zero, and zero again afterwards
    long long* fault, int no_class, int nothing_counts)
{
    __shared__ WIDE of_warp[WARPS][2];
    __shared__ bool last;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const WIDE evenly = smoothing / classes;

    WIDE sum = 0, count = 0;
    for (long long row = (long long)blockIdx.x * WARPS + warp; row < rows; row += (long long)gridDim.x * WARPS) {
        const REAL* mine = scores + row * classes;
        const long long label = labels[row];
        const bool counts = !(ignores && label == ignored), is_class = label >= 0 && label < classes;

        WIDE largest = -INFINITY;
        for (int c = lane; c < classes; c += 32) largest = max(largest, wide(mine[c]));
        largest = warp_max(largest);
        WIDE rest = 0, equals = 0, below = 0;
        for (int c = lane; c < classes; c += 32) {
            const WIDE score = wide(mine[c]) - largest;
            if (score == 0) equals += 1;
            else rest += exp(score);
            below += score;
        }
        rest = warp_sum(rest) + (warp_sum(equals) - 1), below = warp_sum(below);

        for (int c = lane; c < classes; c += 32) {
            const WIDE score = wide(mine[c]) - largest, power = exp(score);
            const WIDE others = score == 0 ? rest : 1 + rest - power;
            const WIDE slope = c == label ? smoothing - evenly - others / (1 + rest) : power / (1 + rest) - evenly;
            slopes[row * classes + c] = !counts ? 0 : is_class ? slope : NAN;
        }
        const WIDE chosen = is_class ? wide(mine[label]) - largest : NAN;
        WIDE loss = log1p(rest) - (1 - smoothing) * chosen;
        if (smoothing > 0) loss -= evenly * below;
        if (!counts) loss = 0;
        if (reduction == NONE && lane == 0) store(&losses[row], loss);
        if (counts && !is_class && lane == 0) atomicMin(&fault[0], row);
        sum += loss;
        count += counts;
    }

    // The sum of the block, then, in the block that comes last, that of all blocks, always in the same order.
    if (lane == 0) of_warp[warp][0] = sum, of_warp[warp][1] = count;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < WARPS; w++) sum += of_warp[w][0], count += of_warp[w][1];
        parts[2 * blockIdx.x] = sum, parts[2 * blockIdx.x + 1] = count;
        __threadfence();  // our part is to be seen before we are counted
        last = atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || warp > 0) return;
    __threadfence();
    sum = count = 0;
    for (int b = lane; b < (int)gridDim.x; b += 32) sum += parts[2 * b], count += parts[2 * b + 1];
    sum = warp_sum(sum), count = warp_sum(count);
    if (lane > 0) return;
    *counted = count;
    if (reduction != NONE) store(losses, reduction == MEAN ? sum / count : sum);
    if (fault[1]) return;  // an earlier one, which nobody has read yet
    if (fault[0] < rows) fault[1] = no_class, fault[2] = labels[fault[0]];
    else if (reduction == MEAN && count == 0) fault[1] = nothing_counts;
}

// The gradient in the scores: softmax - truth, times the gradient that arrives, of each row or of their sum or mean.
extern "C" __global__ void softmax_cross_entropy_backward(
    const REAL* __restrict__ g, const WIDE* __restrict__ slopes, const WIDE* __restrict__ counted, long long size,
    int classes, int reduction, REAL* __restrict__ dx)
{
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (first >= size) return;
    const WIDE of_all = reduction == NONE ? 0 : reduction == MEAN ? wide(g[0]) / *counted : wide(g[0]);
    for (long long i = first; i < size; i += (long long)gridDim.x * blockDim.x)
        store(&dx[i], slopes[i] * (reduction == NONE ? wide(g[i / classes]) : of_all));
}
