// What was found in an optimizer's gradients: three integers in device memory, so that the host need not wait for them.
#pragma once
#define SKIP 0  // whether this step is to be skipped, because a gradient holds a NaN or an infinity
#define SKIPPED 1  // how many steps were skipped so far
#define FOUND 2  // whether one was found by the launches that are still looking
