// Convolution as a product of matrices: the windows of all images as the rows of one matrix, and back.
//
// Images lie channels-last, x (N, H, W, C). The matrix has a row for each pixel of the result, and in it what the kernel
// sees from there, in the order in which a weight (O, C, kh, kw) lies in memory: so the weight is multiplied as it is.
// A thread makes one number of what is written, and neighbours write neighbours. What is read lies apart, but each
// piece of it is read by threads that run at about the same time, and so comes from the cache.
#include "common.cuh"

#define GEOMETRY                                                                                                     \
    int height, int width, int channels, int rows, int columns, int kh, int kw, int stride_y, int stride_x, int top, \
        int left, int step_y, int step_x
// Of the images: height, width, channels. Of the result: rows, columns. `step` is the dilation.

#define FOR_EACH(i, count)                                                                                   \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (long long)gridDim.x * blockDim.x)

// windows (N * rows * columns, C * kh * kw); zeros where the kernel sees the padding.
extern "C" __global__ void gather_windows(
    const REAL* __restrict__ x, REAL* __restrict__ windows, long long count, GEOMETRY)
{
    const int length = channels * kh * kw;
    FOR_EACH(i, count) {
        const int pixel = i / length, place = i % length;
        const int image = pixel / (rows * columns), row = pixel / columns % rows, column = pixel % columns;
        const int channel = place / (kh * kw), ky = place / kw % kh, kx = place % kw;
        const int y = row * stride_y + ky * step_y - top, x_ = column * stride_x + kx * step_x - left;
        const bool inside = 0 <= y && y < height && 0 <= x_ && x_ < width;
        store(&windows[i], inside ? wide(x[(((long long)image * height + y) * width + x_) * channels + channel]) : 0);
    }
}

// The adjoint: dx (N, H, W, C), where each number is the sum of what stands for it in all the windows. A thread looks
// for the windows that see its pixel, so that no two threads add into one place and the order of a sum is fixed.
extern "C" __global__ void add_windows(
    const WIDE* __restrict__ windows, REAL* __restrict__ dx, long long count, GEOMETRY)
{
    const int length = channels * kh * kw;
    FOR_EACH(i, count) {
        const long long pixel = i / channels;
        const int channel = i % channels, x = pixel % width, y = pixel / width % height;
        const long long image = pixel / width / height;
        WIDE sum = 0;
        for (int ky = 0; ky < kh; ky++) {
            const int down = y + top - ky * step_y, row = down / stride_y;  // the window that has it ky rows down
            if (down < 0 || down % stride_y || row >= rows) continue;
            for (int kx = 0; kx < kw; kx++) {
                const int across = x + left - kx * step_x, column = across / stride_x;
                if (across < 0 || across % stride_x || column >= columns) continue;
                sum += windows[((image * rows + row) * columns + column) * length + (channel * kh + ky) * kw + kx];
            }
        }
        store(&dx[i], sum);
    }
}
