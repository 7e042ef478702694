// Max pooling. Images are channels-last in memory: (N, H, W, C).
//
// A block takes one row of one image (blockIdx.x), its threads lie along that row, (column, channel), so that neighbours
// in a warp read neighbours in memory. Rows that are longer than a block are shared out among the blocks along y.
// Where a window's winner lies is stored as its number in the window, counted row by row: in a byte where the window has
// at most 256 places, else in an int.
#include "pooling_windows.cuh"

struct Winners { unsigned char* bytes; int* ints; };  // one of them is null

__device__ __forceinline__ int winner_at(Winners winners, long long i) {
    return winners.bytes ? winners.bytes[i] : winners.ints[i];
}

// The maximum of each window and its winner. Padding never wins, among equals the first wins, and the last NaN wins over
// every number.
extern "C" __global__ void max_pool(
    const REAL* __restrict__ x, Windows s, REAL* __restrict__ y, unsigned char* bytes, int* ints)
{
    const Winners winners = {bytes, ints};
    const int row = blockIdx.x % s.out_height;
    const REAL* image = x + (long long)(blockIdx.x / s.out_height) * s.height * s.width * s.channels;
    for (int t = blockIdx.y * blockDim.x + threadIdx.x; t < s.out_width * s.channels; t += gridDim.y * blockDim.x) {
        const int channel = t % s.channels;
        const int top = row * s.down - s.above, left = t / s.channels * s.across - s.before;
        WIDE best = -INFINITY;
        int winner = -1;
        for (int i = max(0, -top); i < min(s.kernel_height, s.height - top); i++)
            for (int j = max(0, -left); j < min(s.kernel_width, s.width - left); j++) {
                const WIDE value = wide(image[((long long)(top + i) * s.width + left + j) * s.channels + channel]);
                if (winner >= 0 && !(value > best) && value == value) continue;
                best = value;
                winner = i * s.kernel_width + j;
            }
        const long long here = (long long)blockIdx.x * s.out_width * s.channels + t;
        store(&y[here], best);
        if (winners.bytes) winners.bytes[here] = max(winner, 0);
        else winners.ints[here] = max(winner, 0);
    }
}

// How far apart neighbours along each axis of an array of images lie in memory, in numbers.
struct Steps { long long image, row, column, channel; };

// The backward of `max_pool`: a thread a pixel of x, which adds up what the windows it has won hand to it. So nothing is
// added atomically, and every run gives the same sums. g is read in whichever order it lies: behind pooling there is often
// a reshape to rows for a linear layer, whose gradient comes back with the channels first.
extern "C" __global__ void max_pool_scatter(
    const REAL* __restrict__ g, Steps to, unsigned char* bytes, int* ints, Windows s, REAL* __restrict__ dx)
{
    const Winners winners = {bytes, ints};
    const int row = blockIdx.x % s.height + s.above;
    const long long image = blockIdx.x / s.height, results = image * s.out_height * s.out_width * s.channels;
    for (int t = blockIdx.y * blockDim.x + threadIdx.x; t < s.width * s.channels; t += gridDim.y * blockDim.x) {
        const int channel = t % s.channels, column = t / s.channels + s.before;
        WIDE sum = 0;
        // The window whose first row is i above this pixel is number (row - i) / down.
        for (int i = row % s.down; i < s.kernel_height && i <= row; i += s.down) {
            const int out_row = (row - i) / s.down;
            if (out_row >= s.out_height) continue;
            for (int j = column % s.across; j < s.kernel_width && j <= column; j += s.across) {
                const int out_column = (column - j) / s.across;
                if (out_column >= s.out_width) continue;
                const long long there =
                    results + ((long long)out_row * s.out_width + out_column) * s.channels + channel;
                if (winner_at(winners, there) != i * s.kernel_width + j) continue;
                sum += wide(g[image * to.image + out_row * to.row + out_column * to.column + channel * to.channel]);
            }
        }
        store(&dx[(long long)blockIdx.x * s.width * s.channels + t], sum);
    }
}

// The element of t, an array as the images, at the place of each window's winner; 0 where that lies in the padding.
extern "C" __global__ void max_pool_gather(
    const REAL* __restrict__ images, unsigned char* bytes, int* ints, Windows s, REAL* __restrict__ y)
{
    const Winners winners = {bytes, ints};
    const REAL* image = images + (long long)(blockIdx.x / s.out_height) * s.height * s.width * s.channels;
    const int top = (int)(blockIdx.x % s.out_height) * s.down - s.above;
    for (int t = blockIdx.y * blockDim.x + threadIdx.x; t < s.out_width * s.channels; t += gridDim.y * blockDim.x) {
        const long long here = (long long)blockIdx.x * s.out_width * s.channels + t;
        const int winner = winner_at(winners, here);
        const int row = top + winner / s.kernel_width;
        const int column = t / s.channels * s.across - s.before + winner % s.kernel_width;
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        const long long there = ((long long)row * s.width + column) * s.channels + t % s.channels;
        store(&y[here], inside ? wide(image[there]) : 0);
    }
}
