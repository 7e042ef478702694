// Where the windows of a pooling lie, as its kernels are given it.
#pragma once
#include "common.cuh"

struct Windows {
    int height, width, channels;       // of the images
    int out_height, out_width;         // how many windows there are
    int kernel_height, kernel_width;   // the size of a window
    int down, across;                  // from a window to the next one, in pixels
    int above, before;                 // rows and columns of padding
};
