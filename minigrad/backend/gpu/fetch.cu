// The numbers of the next step, from the memory of the host: what makes one replay of a captured step differ from another.
//
// The host writes the numbers of each step into the next slot of a ring, in pinned memory, which a GPU reads over the bus
// at the host's own address (CUDA calls that unified addressing). A captured kernel has the same arguments in every
// replay, so it cannot be told which slot: it counts for itself, in `turn`, which only this kernel changes. One block.
// The first word of a slot says how many follow. A word is 8 bytes, whether a float64 or an integer lies in it.
#include "common.cuh"

extern "C" __global__ void fetch(
    const volatile unsigned long long* ring,  // (slots, words a slot), of the host
    int slots, int words,
    unsigned long long* turn,     // (1,): how many slots have been read
    unsigned long long* numbers)  // (words a slot - 1,)
{
    const volatile unsigned long long* slot = ring + (*turn % slots) * words;
    const int count = (int)slot[0];
    for (int i = threadIdx.x; i < count; i += blockDim.x) numbers[i] = slot[1 + i];
    __syncthreads();  // all threads have read the turn
    if (threadIdx.x == 0) *turn += 1;
}
