// Batch normalisation (Ioffe and Szegedy 2015). x is a matrix (rows, channels), a row a pixel.
//
// Forward, two launches: the moments of each channel; then (x - mean) / std * weight + bias, and ReLU if asked. Backward,
// two launches: the two sums over the rows that the gradient needs; then the gradient. A sum over all rows cannot be
// had before every block has read its share, so neither pair can be one launch.
#include "channels.cuh"
#define GROUP 8  // rows that are taken at once: their reads are under way together, and one division serves them all

struct Moments { WIDE count, mean, spread; };  // spread: the sum of (x - mean)^2

// Moments of two sets from the moments of each (Chan, Golub and LeVeque 1983). Unlike the sum of squares minus the square
// of the sum, this loses nothing where the mean is large.
__device__ __forceinline__ Moments joined(Moments a, Moments b) {
    const WIDE count = a.count + b.count;
    if (b.count == 0) return a;
    const WIDE apart = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + apart * share, a.spread + b.spread + apart * apart * a.count * share};
}
__device__ __forceinline__ Moments from_lane(Moments a, int away) {
    return {from_lane(a.count, away), from_lane(a.mean, away), from_lane(a.spread, away)};
}

// The running statistics of a layer; null where there are none. With `momentum` below 0 they are the mean over all
// batches, of which there were `*batches` before this one.
struct Running {
    REAL *mean, *variance;
    const long long* batches;
    WIDE momentum;
};

extern "C" __global__ void batch_norm_moments(
    const REAL* __restrict__ x, long long rows, int channels, int lanes, WIDE eps, Moments* parts, unsigned* arrived,
    WIDE* __restrict__ mean, WIDE* __restrict__ variance, WIDE* __restrict__ inv_std, Running running)
{
    __shared__ Meeting<Moments> meeting;
    const Share my = my_share(lanes);
    Moments mine = {0, 0, 0};
    // All values less the first: where the mean is far from 0, the differences have the digits that sums of them need.
    const WIDE first = my.channel < channels && rows ? wide(x[my.channel]) : 0;
    if (my.channel < channels)
        for (long long r = my.row; r < rows; r += GROUP * my.step) {
            WIDE value[GROUP], sum = 0, spread = 0;
            int count = 0;
            for (int i = 0; i < GROUP && r + i * my.step < rows; i++) {
                sum += value[i] = wide(x[(r + i * my.step) * channels + my.channel]) - first;
                count++;
            }
            const WIDE middle = sum / count;
            for (int i = 0; i < count; i++) spread += (value[i] - middle) * (value[i] - middle);
            mine = joined(mine, {(WIDE)count, middle, spread});
        }
    if (!join_rows(mine, lanes, channels, parts, arrived, meeting)) return;

    const int c = my.channel;
    mine.mean += first;
    mean[c] = mine.mean;
    variance[c] = mine.spread / mine.count;
    inv_std[c] = 1 / sqrt(variance[c] + eps);
    if (!running.mean) return;
    const WIDE towards = running.momentum < 0 ? (WIDE)1 / (*running.batches + 1) : running.momentum;
    const WIDE unbiased = mine.spread / (mine.count - 1);
    store(&running.mean[c], (1 - towards) * wide(running.mean[c]) + towards * mine.mean);
    store(&running.variance[c], (1 - towards) * wide(running.variance[c]) + towards * unbiased);
}

// `batches`, if not null, counts this batch: here, because every block of the launch before has read it.
extern "C" __global__ void batch_norm_apply(
    const REAL* __restrict__ x, long long rows, int channels, int lanes, const WIDE* __restrict__ mean,
    const WIDE* __restrict__ inv_std, const REAL* __restrict__ weight, const REAL* __restrict__ bias, bool relu,
    long long* batches, REAL* __restrict__ y)
{
    if (batches && blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *batches += 1;
    const Share my = my_share(lanes);
    if (my.channel >= channels) return;
    const WIDE middle = mean[my.channel], scale = inv_std[my.channel] * (weight ? wide(weight[my.channel]) : 1);
    const WIDE shift = bias ? wide(bias[my.channel]) : 0;
    for (long long r = my.row; r < rows; r += my.step) {
        const WIDE value = (wide(x[r * channels + my.channel]) - middle) * scale + shift;
        store(&y[r * channels + my.channel], relu && value < 0 ? 0 : value);  // a NaN stays
    }
}

// The gradient that arrives at the normalised values: after a ReLU only where its result y is not 0.
__device__ __forceinline__ WIDE arriving(const REAL* g, const REAL* y, long long i) {
    return y && wide(y[i]) == 0 ? 0 : wide(g[i]);
}

// Of each channel the sums over the rows of g and of g * xhat, with xhat = (x - mean) / std: the gradients of bias and
// weight. `sums` (2, channels) keeps them in full precision for the next launch.
extern "C" __global__ void batch_norm_sums(
    const REAL* __restrict__ g, const REAL* __restrict__ y, const REAL* __restrict__ x, long long rows, int channels,
    int lanes, const WIDE* __restrict__ mean, const WIDE* __restrict__ inv_std, Two* parts, unsigned* arrived,
    WIDE* __restrict__ sums, REAL* __restrict__ dweight, REAL* __restrict__ dbias)
{
    __shared__ Meeting<Two> meeting;
    const Share my = my_share(lanes);
    Two mine = {0, 0};
    if (my.channel < channels) {
        const WIDE middle = mean[my.channel], scale = inv_std[my.channel];
        for (long long r = my.row; r < rows; r += my.step) {
            const long long i = r * channels + my.channel;
            const WIDE slope = arriving(g, y, i);
            mine = joined(mine, {slope, slope * ((wide(x[i]) - middle) * scale)});
        }
    }
    if (!join_rows(mine, lanes, channels, parts, arrived, meeting)) return;
    sums[my.channel] = mine.first;
    sums[channels + my.channel] = mine.second;
    store(&dbias[my.channel], mine.first);
    store(&dweight[my.channel], mine.second);
}

// dx = weight / std * (g - mean(g) - xhat * mean(g * xhat)), with means over the rows.
extern "C" __global__ void batch_norm_backward(
    const REAL* __restrict__ g, const REAL* __restrict__ y, const REAL* __restrict__ x, long long rows, int channels,
    int lanes, const WIDE* __restrict__ mean, const WIDE* __restrict__ inv_std, const REAL* __restrict__ weight,
    const WIDE* __restrict__ sums, REAL* __restrict__ dx)
{
    const Share my = my_share(lanes);
    if (my.channel >= channels) return;
    const WIDE middle = mean[my.channel], inverse = inv_std[my.channel];
    const WIDE scale = inverse * (weight ? wide(weight[my.channel]) : 1);
    const WIDE of_g = sums[my.channel] / rows, of_product = sums[channels + my.channel] / rows;
    for (long long r = my.row; r < rows; r += my.step) {
        const long long i = r * channels + my.channel;
        const WIDE xhat = (wide(x[i]) - middle) * inverse;
        store(&dx[i], (arriving(g, y, i) - of_g - xhat * of_product) * scale);
    }
}
