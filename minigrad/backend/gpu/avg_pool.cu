// Average pooling. Images are channels-last in memory: (N, H, W, C). Blocks and threads lie as in max_pool.cu.
#include "pooling_windows.cuh"
#define WARPS 8

// How many pixels a window counts along an axis: all of `kernel`, or those that lie in the image.
__device__ __forceinline__ int counted(int first, int kernel, int size, bool padding_counts) {
    return padding_counts ? kernel : min(first + kernel, size) - max(first, 0);
}

// The mean of each window. Padding counts as zeros in the sum, and is counted only if so asked.
extern "C" __global__ void avg_pool(const REAL* __restrict__ x, Windows s, bool padding_counts, REAL* __restrict__ y) {
    const REAL* image = x + (long long)(blockIdx.x / s.out_height) * s.height * s.width * s.channels;
    const int top = (int)(blockIdx.x % s.out_height) * s.down - s.above;
    const int rows = counted(top, s.kernel_height, s.height, padding_counts);
    for (int t = blockIdx.y * blockDim.x + threadIdx.x; t < s.out_width * s.channels; t += gridDim.y * blockDim.x) {
        const int left = t / s.channels * s.across - s.before;
        WIDE sum = 0;
        for (int row = max(top, 0); row < min(top + s.kernel_height, s.height); row++)
            for (int column = max(left, 0); column < min(left + s.kernel_width, s.width); column++)
                sum += wide(image[((long long)row * s.width + column) * s.channels + t % s.channels]);
        const int columns = counted(left, s.kernel_width, s.width, padding_counts);
        store(&y[(long long)blockIdx.x * s.out_width * s.channels + t], sum / ((WIDE)rows * columns));
    }
}

// The backward of `avg_pool`: a thread a pixel of x, which adds up its share of every window that it lies in.
extern "C" __global__ void avg_pool_spread(
    const REAL* __restrict__ g, Windows s, bool padding_counts, REAL* __restrict__ dx)
{
    const int row = blockIdx.x % s.height + s.above;
    const long long results = (long long)(blockIdx.x / s.height) * s.out_height * s.out_width * s.channels;
    for (int t = blockIdx.y * blockDim.x + threadIdx.x; t < s.width * s.channels; t += gridDim.y * blockDim.x) {
        const int channel = t % s.channels, column = t / s.channels + s.before;
        WIDE sum = 0;
        for (int i = row % s.down; i < s.kernel_height && i <= row; i += s.down) {
            const int out_row = (row - i) / s.down;
            if (out_row >= s.out_height) continue;
            const int rows = counted(out_row * s.down - s.above, s.kernel_height, s.height, padding_counts);
            for (int j = column % s.across; j < s.kernel_width && j <= column; j += s.across) {
                const int out_column = (column - j) / s.across;
                if (out_column >= s.out_width) continue;
                const int columns =
                    counted(out_column * s.across - s.before, s.kernel_width, s.width, padding_counts);
                const long long there =
                    results + ((long long)out_row * s.out_width + out_column) * s.channels + channel;
                sum += wide(g[there]) / ((WIDE)rows * columns);
            }
        }
        store(&dx[(long long)blockIdx.x * s.width * s.channels + t], sum);
    }
}

// The mean of a whole image, of each channel: one window as large as the image, for which a thread alone would have to
// add too much. A block takes 32 channels (blockIdx.y) of an image (blockIdx.x); its warps share the pixels.
extern "C" __global__ void mean_of_image(
    const REAL* __restrict__ x, int pixels, int channels, REAL* __restrict__ means)
{
    __shared__ WIDE of_warp[WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, channel = blockIdx.y * 32 + lane;
    const REAL* image = x + (long long)blockIdx.x * pixels * channels;
    WIDE sum = 0;
    if (channel < channels)
        for (int p = warp; p < pixels; p += WARPS) sum += wide(image[(long long)p * channels + channel]);
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || channel >= channels) return;
    for (int w = 1; w < WARPS; w++) sum += of_warp[w][lane];
    store(&means[(long long)blockIdx.x * channels + channel], sum / pixels);
}
