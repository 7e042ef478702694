// The sum of each channel: what a bias's gradient is. x is a matrix (rows, channels), a row is a pixel.
#include "channels.cuh"

extern "C" __global__ void channel_sum(
    const REAL* __restrict__ x, long long rows, int channels, int lanes, WIDE* parts, unsigned* arrived,
    REAL* __restrict__ sums)
{
    __shared__ Meeting<WIDE> meeting;
    const Share my = my_share(lanes);
    WIDE mine = 0;
    if (my.channel < channels)
        for (long long r = my.row; r < rows; r += my.step) mine += wide(x[r * channels + my.channel]);
    if (join_rows(mine, lanes, channels, parts, arrived, meeting)) store(&sums[my.channel], mine);
}
