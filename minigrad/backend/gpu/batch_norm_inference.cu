// Batch normalisation by given statistics, as a trained network uses it: y = (x - mean) / sqrt(variance + eps) * weight
// + bias, and ReLU if asked. x is a matrix (rows, channels), a row a pixel.
//
// No number of y depends on another number of x, so that each way is one launch: nothing has to be summed first.
#include "channels.cuh"

extern "C" __global__ void batch_norm_inference(
    const REAL* __restrict__ x, long long rows, int channels, int lanes, const REAL* __restrict__ mean,
    const REAL* __restrict__ variance, const REAL* __restrict__ weight, const REAL* __restrict__ bias, WIDE eps,
    bool relu, REAL* __restrict__ y)
{
    const Share my = my_share(lanes);
    if (my.channel >= channels) return;
    const WIDE middle = wide(mean[my.channel]), shift = bias ? wide(bias[my.channel]) : 0;
    const WIDE scale = (weight ? wide(weight[my.channel]) : 1) / sqrt(wide(variance[my.channel]) + eps);
    for (long long r = my.row; r < rows; r += my.step) {
        const WIDE value = (wide(x[r * channels + my.channel]) - middle) * scale + shift;
        store(&y[r * channels + my.channel], relu && value < 0 ? 0 : value);  // a NaN stays
    }
}

// The gradients of all five arguments, given g for the result, and after a ReLU that result y. Those of a channel are its
// sums of g and of g * xhat over the rows, with xhat = (x - mean) / std, times what the channel has in common.
extern "C" __global__ void batch_norm_inference_backward(
    const REAL* __restrict__ g, const REAL* __restrict__ y, const REAL* __restrict__ x, long long rows, int channels,
    int lanes, const REAL* __restrict__ mean, const REAL* __restrict__ variance, const REAL* __restrict__ weight,
    WIDE eps, Two* parts, unsigned* arrived, REAL* __restrict__ dx, REAL* __restrict__ dmean,
    REAL* __restrict__ dvariance, REAL* __restrict__ dweight, REAL* __restrict__ dbias)
{
    __shared__ Meeting<Two> meeting;
    const Share my = my_share(lanes);
    Two mine = {0, 0};
    WIDE inverse = 0, scale = 0;
    if (my.channel < channels) {
        inverse = 1 / sqrt(wide(variance[my.channel]) + eps);
        scale = inverse * (weight ? wide(weight[my.channel]) : 1);
        const WIDE middle = wide(mean[my.channel]);
        for (long long r = my.row; r < rows; r += my.step) {
            const long long i = r * channels + my.channel;
            const WIDE slope = y && wide(y[i]) == 0 ? 0 : wide(g[i]);
            store(&dx[i], slope * scale);
            mine = joined(mine, {slope, slope * ((wide(x[i]) - middle) * inverse)});
        }
    }
    if (!join_rows(mine, lanes, channels, parts, arrived, meeting)) return;
    store(&dbias[my.channel], mine.first);
    store(&dweight[my.channel], mine.second);
    store(&dmean[my.channel], -mine.first * scale);
    store(&dvariance[my.channel], mine.second * scale * inverse / -2);
}
