// y = max(x + bias, 0), and its backward. x is a matrix (rows, channels), a row a pixel, or the outputs of a linear layer.
#include "channels.cuh"

extern "C" __global__ void bias_relu(
    const REAL* __restrict__ x, const REAL* __restrict__ bias, long long rows, int channels, int lanes,
    REAL* __restrict__ y)
{
    const Share my = my_share(lanes);
    if (my.channel >= channels) return;
    const WIDE shift = wide(bias[my.channel]);
    for (long long r = my.row; r < rows; r += my.step) {
        const WIDE value = wide(x[r * channels + my.channel]) + shift;
        store(&y[r * channels + my.channel], value < 0 ? 0 : value);  // a NaN stays
    }
}

// dx is g where y is not 0; the bias's gradient is the sum of dx over the rows, taken on the way.
extern "C" __global__ void bias_relu_backward(
    const REAL* __restrict__ g, const REAL* __restrict__ y, long long rows, int channels, int lanes, WIDE* parts,
    unsigned* arrived, REAL* __restrict__ dx, REAL* __restrict__ dbias)
{
    __shared__ Meeting<WIDE> meeting;
    const Share my = my_share(lanes);
    WIDE mine = 0;
    if (my.channel < channels)
        for (long long r = my.row; r < rows; r += my.step) {
            const long long i = r * channels + my.channel;
            const WIDE slope = wide(y[i]) != 0 ? wide(g[i]) : 0;
            store(&dx[i], slope);
            mine += slope;
        }
    if (join_rows(mine, lanes, channels, parts, arrived, meeting)) store(&dbias[my.channel], mine);
}
