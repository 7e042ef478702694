// Random changes to a batch of images, all steps in one launch: crop, flip, cutout, bytes to floats, normalise.
//
// A thread makes one pixel of the result, all its channels. It goes through the steps backwards: "this pixel was moved
// here from there", so that only where it comes from is looked up, once; then forwards through those that change values.
// What a step draws for an image follows from the step's key and the image's number (philox.cuh): every thread of the
// image draws the same.
#include "common.cuh"
#include "philox.cuh"
#define MOST_STEPS 8

enum { SCALE, CROP, FLIP, CUTOUT };
enum { CONSTANT, EDGE, REFLECT };

struct Step {
    int kind, mode;
    int height, width;  // of the images that the step is given
    int size;           // crop: the padding; cutout: the side of the square
    int rows, columns;  // crop: how many places the window's corner may have
    float number;       // flip: the probability; cutout: what the square is filled with
};
struct Steps { Step at[MOST_STEPS]; unsigned long long keys[MOST_STEPS]; int count; };

__device__ __forceinline__ float wide(unsigned char x) { return x; }
__device__ __forceinline__ void store(unsigned char* p, float x) { *p = (unsigned char)x; }

// A whole number from 0 to n - 1, each as likely as the others but for 1 in 2^32 / n.
__device__ __forceinline__ int below(int n, unsigned word) { return __umulhi(n, word); }

// Where a coordinate beyond the border is read: the border's pixel, or its mirror image, as often as it takes.
__device__ __forceinline__ int inside(int i, int length, int mode)
{
    if (mode == EDGE || length == 1) return min(max(i, 0), length - 1);
    const int period = 2 * (length - 1);
    i = (i % period + period) % period;
    return i < length ? i : period - i;
}

template <class IN, class OUT> __device__ __forceinline__ void augment_pixels(
    const IN* __restrict__ images,  // (N, C, H, W)
    long long pixels, int channels, int height, int width,  // of the result: N * height * width, and the rest
    const Steps& steps,
    const float* __restrict__ scales,  // for each step its (mean, std) of each channel: v -> (v - mean) / std
    OUT* __restrict__ result)  // (N, height, width, C)
{
    const int rows = steps.at[0].height, columns = steps.at[0].width;
    for (long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x; p < pixels;
         p += (long long)gridDim.x * blockDim.x) {
        const long long image = p / ((long long)height * width);
        int i = p / width % height, j = p % width;
        int first = 0;  // of the steps that the value goes through
        bool filled = false;
        float fill = 0;  // black, unless it is a cutout that fills the pixel
        for (int s = steps.count - 1; s >= 0; s--) {
            const Step& step = steps.at[s];
            const Random4 random = philox(image, 0, steps.keys[s]);
            // In double, or 2^32 - 1 would round to 2^32, and a flip that is certain be left out now and then.
            if (step.kind == FLIP && random.words[0] * 0x1p-32 < step.number) j = step.width - 1 - j;
            if (step.kind == CUTOUT) {
                const int top = below(step.height, random.words[0]) - step.size / 2;
                const int left = below(step.width, random.words[1]) - step.size / 2;
                filled = i >= top && i < top + step.size && j >= left && j < left + step.size;
                if (filled) fill = step.number;
            }
            if (step.kind == CROP) {
                i += below(step.rows, random.words[0]) - step.size;
                j += below(step.columns, random.words[1]) - step.size;
                if (step.mode == CONSTANT) {
                    filled = i < 0 || i >= step.height || j < 0 || j >= step.width;
                } else {
                    i = inside(i, step.height, step.mode);
                    j = inside(j, step.width, step.mode);
                }
            }
            if (filled) {
                first = s;
                break;
            }
        }
        for (int c = 0; c < channels; c++) {
            WIDE v = filled ? fill : wide(images[((image * channels + c) * rows + i) * columns + j]);
            for (int s = first; s < steps.count; s++)
                if (steps.at[s].kind == SCALE) {
                    const float* mean_and_std = scales + (s * channels + c) * 2;
                    v = (v - mean_and_std[0]) / mean_and_std[1];
                }
            store(&result[p * channels + c], v);
        }
    }
}

extern "C" __global__ void augment(
    const REAL* images, long long pixels, int channels, int height, int width, Steps steps, const float* scales,
    REAL* result)
{
    augment_pixels(images, pixels, channels, height, width, steps, scales, result);
}

extern "C" __global__ void augment_bytes(
    const unsigned char* images, long long pixels, int channels, int height, int width, Steps steps,
    const float* scales, unsigned char* result)
{
    augment_pixels(images, pixels, channels, height, width, steps, scales, result);
}

extern "C" __global__ void augment_bytes_to_floats(
    const unsigned char* images, long long pixels, int channels, int height, int width, Steps steps,
    const float* scales, REAL* result)
{
    augment_pixels(images, pixels, channels, height, width, steps, scales, result);
}
