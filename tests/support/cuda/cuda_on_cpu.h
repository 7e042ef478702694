// CUDA C on a CPU: enough of the language for g++ to compile a kernel's unmodified text and run it over a grid.
//
// It is for proving results where there is no GPU, and stricter than a GPU wherever strictness finds mistakes:
// - Threads run one at a time, in an order that the caller picks: in turn, backwards, or shuffled, with eight blocks
//   taking turns wherever a thread waits. A kernel that lacks a __syncthreads gives another result in another order.
// - Shared memory is full of NaN when a block begins, or, with the threads backwards, of zeros: a flag is then false.
//   A barrier or shuffle that some threads cannot reach is an error that names them, and so is a launch that the
//   device would refuse.
// - A block that counts itself by atomicInc must have called __threadfence before, and the one that thereby finds that
//   it is the last must call it before it ends. What goes wrong on a GPU without does not go wrong here.
//
// How: each thread of a block is a function call on a stack of its own (a fiber). It runs until it waits, for the
// block at __syncthreads or for its warp at a shuffle; then the next one runs. A kernel that never waits needs one
// stack and is a plain loop. There is one operating-system thread, so an atomic operation is a plain one.
// What it cannot show: speed, races between blocks on one address beyond their order, rounding of __expf and friends.
#pragma once
#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cassert>
#include <cstdint>
#include <stddef.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <tuple>
#include <utility>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory"), aligned(16)))
#define HIDDEN __attribute__((weak, visibility("hidden")))
extern char __start_shared_memory[] HIDDEN, __stop_shared_memory[] HIDDEN;

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace cuda_on_cpu {

constexpr int WARP = 32, STACK = 64 * 1024;

struct Fiber {
    std::vector<char> stack = std::vector<char>(STACK);
    jmp_buf place;
    uint3 index;
    int thread = -1, warp = 0, lane = 0;
    long long waits_for = 0;  // which release of its block (or warp) it waits for; 0: it runs
    bool at_block_barrier = false, begun = false;
};

struct Warp {
    alignas(16) char slots[2][WARP][16];  // what the lanes show each other; in turns, so that one wait is enough
    unsigned live = 0, arrived = 0, mask = 0;
    const char* what = nullptr;
    long long releases = 1;
};

struct Block {
    uint3 index{};
    int started = 0, done = 0, arrived = 0;
    long long releases = 1;
    bool has_fenced = false, owes_fence = false;  // around counting itself by atomicInc
    std::vector<Warp> warps;
    std::vector<Fiber*> fibers;  // made as needed, kept for the next block
    std::vector<char> shared, dynamic_shared;  // `shared`: its static shared memory while another block has the place
};

// What all kernels of this library share: the one launch under way.
struct Launch {
    dim3 grid, block;
    int count = 0;
    std::vector<int> order;
    Block* at = nullptr;
    Fiber* now = nullptr;
    jmp_buf home;
    void (*body)(void*) = nullptr;
    void* arguments = nullptr;
    char unset = 0;  // what shared memory is full of when a block begins
    char error[512] = "";
};
#ifdef CUDA_ON_CPU_APART
extern Launch run;
#else
Launch run;
#endif
static std::vector<Block> resident;  // blocks that run side by side

[[noreturn]] inline void fail(const char* text) {
    const uint3 b = run.at->index, t = run.now->index;
    snprintf(run.error, sizeof run.error, "%s (block %u,%u,%u thread %u,%u,%u)", text, b.x, b.y, b.z, t.x, t.y, t.z);
    _longjmp(run.home, 2);
}

inline void release_block_if_complete() {
    Block& block = *run.at;
    if (block.arrived && block.arrived == run.count - block.done) { block.arrived = 0; block.releases++; }
}

// A fiber's life: take the next thread of the block and run it, as long as there are any.
inline void live() {
    Fiber* me = run.now;
    for (;;) {
        while (run.at->started < run.count) {
            const int t = me->thread = run.order[run.at->started++];
            me->warp = t / WARP, me->lane = t % WARP;
            me->index = {t % run.block.x, t / run.block.x % run.block.y, t / (run.block.x * run.block.y)};
            run.body(run.arguments);
            Warp& warp = run.at->warps[me->warp];
            warp.live &= ~(1u << me->lane);
            if (warp.arrived && (warp.mask & (1u << me->lane))) fail("a thread has returned; others wait for it in a warp");
            run.at->done++;
            if (run.at->done == run.count && run.at->owes_fence)
                fail("this block, the last by atomicInc, calls no __threadfence before it reads what others wrote");
            release_block_if_complete();
        }
        me->thread = -1;
        if (!_setjmp(me->place)) _longjmp(run.home, 1);
    }
}

inline bool ready(const Fiber* f) {
    if (f->thread < 0) return run.at->started < run.count;
    return !f->waits_for || f->waits_for <= (f->at_block_barrier ? run.at->releases : run.at->warps[f->warp].releases);
}

inline void pause() { if (!_setjmp(run.now->place)) _longjmp(run.home, 1); }

inline void wait_for_block() {
    Fiber* me = run.now;
    me->at_block_barrier = true, me->waits_for = run.at->releases + 1;
    run.at->arrived++;
    release_block_if_complete();
    while (!ready(me)) pause();
    me->waits_for = 0;
}

// Show 16 bytes to the lanes of `mask` and wait until all of them have; returns what they show.
inline char (*meet(const char* what, unsigned mask, const void* mine, size_t size))[16] {
    Fiber* me = run.now;
    Warp& warp = run.at->warps[me->warp];
    if (!(mask >> me->lane & 1)) fail("the calling lane is not in the mask of its warp operation");
    if ((mask & warp.live) != mask) fail("a warp operation names lanes that have returned or are not there");
    if (warp.arrived && (warp.mask != mask || strcmp(warp.what, what))) fail("lanes of a warp meet in two operations");
    warp.mask = mask, warp.what = what;
    char (*slots)[16] = warp.slots[warp.releases & 1];
    memcpy(slots[me->lane], mine, size);
    me->at_block_barrier = false, me->waits_for = warp.releases + 1;
    warp.arrived |= 1u << me->lane;
    if (warp.arrived == mask) { warp.arrived = 0; warp.releases++; }
    while (!ready(me)) pause();
    me->waits_for = 0;
    return slots;
}

template <class T> T shuffle(const char* what, unsigned mask, T value, int source, int lane, int width) {
    static_assert(sizeof(T) <= 16);
    if (source < lane / width * width || source >= lane / width * width + width) source = lane;
    auto slots = meet(what, mask, &value, sizeof(T));
    if (!(mask >> source & 1)) fail("a shuffle reads a lane that is not in its mask");
    memcpy(&value, slots[source], sizeof(T));
    return value;
}

inline void* dynamic_shared() { return run.at->dynamic_shared.data(); }

inline void begin_block(Block& block, unsigned number) {
    block.index = {number % run.grid.x, number / run.grid.x % run.grid.y, number / (run.grid.x * run.grid.y)};
    block.started = block.done = block.arrived = 0;
    block.has_fenced = block.owes_fence = false;
    for (size_t w = 0; w < block.warps.size(); w++) {
        const int lanes = std::min<int>(WARP, run.count - w * WARP);
        block.warps[w].live = lanes == 32 ? ~0u : (1u << lanes) - 1;
        block.warps[w].arrived = 0;
    }
    for (Fiber* f : block.fibers) f->thread = -1, f->waits_for = 0;
    std::fill(block.shared.begin(), block.shared.end(), run.unset);
    std::fill(block.dynamic_shared.begin(), block.dynamic_shared.end(), run.unset);
}

inline void bring(Block& block) {  // give it the place of the static shared memory
    if (run.at == &block) return;
    if (run.at) memcpy(run.at->shared.data(), __start_shared_memory, run.at->shared.size());
    memcpy(__start_shared_memory, block.shared.data(), block.shared.size());
    run.at = &block;
}

inline void go_on(Fiber* f) {  // until it waits, or has no thread left to run
    run.now = f;
    if (_setjmp(run.home)) return;
    if (f->begun) _longjmp(f->place, 1);
    f->begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = f->stack.data(), context.uc_stack.ss_size = STACK;
    makecontext(&context, live, 0);
    setcontext(&context);
}

// Let the block at its place go on: every fiber that can, or one of them; whether any could.
inline bool step(bool only_one) {
    Block& block = *run.at;
    bool moved = false;
    for (size_t i = 0; block.done < run.count && i <= block.fibers.size() && !run.error[0]; i++) {
        if (i == block.fibers.size()) {
            if (block.started == run.count) break;
            block.fibers.push_back(new Fiber);
        }
        if (!ready(block.fibers[i])) continue;
        go_on(block.fibers[i]);
        moved = true;
        if (only_one) break;
    }
    return moved;
}
}  // namespace cuda_on_cpu

// --- the language's names ---

#define threadIdx (cuda_on_cpu::run.now->index)
#define blockIdx (cuda_on_cpu::run.at->index)
#define blockDim (cuda_on_cpu::run.block)
#define gridDim (cuda_on_cpu::run.grid)
constexpr int warpSize = 32;

inline void __syncthreads() { cuda_on_cpu::wait_for_block(); }
inline void __syncwarp(unsigned mask = ~0u) { cuda_on_cpu::meet("__syncwarp", mask, "", 1); }
inline void __threadfence() { cuda_on_cpu::run.at->has_fenced = true, cuda_on_cpu::run.at->owes_fence = false; }
inline void __threadfence_block() {}

#define CUDA_SHUFFLE(name, source) \
    template <class T> T name(unsigned mask, T value, int by, int width = 32) { \
        const int lane = cuda_on_cpu::run.now->lane; \
        return cuda_on_cpu::shuffle(#name, mask, value, source, lane, width); \
    }
CUDA_SHUFFLE(__shfl_sync, lane / width * width + (by % width + width) % width)
CUDA_SHUFFLE(__shfl_down_sync, lane + by)
CUDA_SHUFFLE(__shfl_up_sync, lane - by)
CUDA_SHUFFLE(__shfl_xor_sync, lane ^ by)

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const char mine = predicate != 0;
    auto slots = cuda_on_cpu::meet("__ballot_sync", mask, &mine, 1);
    unsigned found = 0;
    for (int i = 0; i < 32; i++) if (mask >> i & 1 && slots[i][0]) found |= 1u << i;
    return found;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }

template <class T, class V> T atomicAdd(T* p, V v) { T old = *p; *p = old + (T)v; return old; }
template <class T, class V> T atomicMax(T* p, V v) { T old = *p; *p = std::max(old, (T)v); return old; }
template <class T, class V> T atomicMin(T* p, V v) { T old = *p; *p = std::min(old, (T)v); return old; }
template <class T, class V> T atomicOr(T* p, V v) { T old = *p; *p = old | (T)v; return old; }
template <class T, class V> T atomicExch(T* p, V v) { T old = *p; *p = (T)v; return old; }
template <class T, class V, class W> T atomicCAS(T* p, V is, W v) { T old = *p; if (old == (T)is) *p = (T)v; return old; }
inline unsigned atomicInc(unsigned* p, unsigned v) {
    cuda_on_cpu::Block& block = *cuda_on_cpu::run.at;
    if (!block.has_fenced) cuda_on_cpu::fail("atomicInc counts a block that has called no __threadfence");
    const unsigned old = *p;
    block.owes_fence = old >= v;
    *p = old >= v ? 0 : old + 1;
    return old;
}

template <class T> T __ldg(const T* p) { return *p; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __uint_as_float(unsigned x) { float f; memcpy(&f, &x, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned x; memcpy(&x, &f, 4); return x; }
inline float __int_as_float(int x) { return __uint_as_float(x); }
inline int __float_as_int(float f) { return __float_as_uint(f); }
using std::max;
using std::min;
using std::exp;  // of a float they give a float, as in CUDA
using std::fabs;
using std::log;
using std::log1p;
using std::pow;
using std::sqrt;
using std::tanh;
using std::isnan;
using std::isfinite;

struct __half { uint16_t bits; };  // only stored: arithmetic is in float, as in our kernels
struct __nv_bfloat16 { uint16_t bits; };
inline float __half2float(__half h) {
    const unsigned sign = (h.bits & 0x8000u) << 16, exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7F800000 | fraction << 13);
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint(std::ldexp((float)fraction, -24)));
    return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}
inline __half __float2half(float f) {  // to nearest, ties to even
    const uint16_t sign = __float_as_uint(f) >> 16 & 0x8000;
    const float size = std::fabs(f);
    if (!(size < 65520)) return {uint16_t(sign | (size != size ? 0x7E00 : 0x7C00))};
    int exponent = size < 6.103515625e-05f ? -14 : std::ilogb(size);
    const int whole = std::nearbyint(std::ldexp(size, 10 - exponent));  // 1024 to 2048, or less where subnormal
    return {uint16_t(sign | (exponent == -14 && whole < 1024 ? whole : ((exponent + 15) << 10) + (whole - 1024)))};
}
inline float __bfloat162float(__nv_bfloat16 b) { return __uint_as_float((unsigned)b.bits << 16); }
inline __nv_bfloat16 __float2bfloat16(float f) {
    const unsigned x = __float_as_uint(f);
    if (f != f) return {0x7FFF};
    return {uint16_t((x + 0x7FFF + (x >> 16 & 1)) >> 16)};
}

// --- launching ---

namespace cuda_on_cpu {

template <class... A> struct Call {
    void (*kernel)(A...);
    void** values;
    template <size_t... I> void spread(std::index_sequence<I...>) { kernel(*(A*)values[I]...); }
    static void body(void* self) { ((Call*)self)->spread(std::index_sequence_for<A...>()); }
};

// Run `body(call)` for each thread of a grid: the part of a launch that is the same for all kernels.
#ifdef CUDA_ON_CPU_APART  // it stands in an object file of its own, so that a kernel compiles in a third of the time
const char* run_grid(void (*body)(void*), void* call, const unsigned* size, size_t shared, unsigned order);
#else
const char* run_grid(void (*body)(void*), void* call, const unsigned* size, size_t shared, unsigned order) {
    run.grid = {size[0], size[1], size[2]}, run.block = {size[3], size[4], size[5]};
    run.count = size[3] * size[4] * size[5];
    run.body = body, run.arguments = call;
    run.error[0] = 0, run.unset = order == 1 ? 0 : 0xFF;
    run.order.resize(run.count);
    for (int i = 0; i < run.count; i++) run.order[i] = order == 1 ? run.count - 1 - i : i;
    std::vector<unsigned> blocks(size[0] * size[1] * size[2]);
    for (size_t i = 0; i < blocks.size(); i++) blocks[i] = order == 1 ? blocks.size() - 1 - i : i;
    std::mt19937 random(order);
    if (order > 1) std::shuffle(run.order.begin(), run.order.end(), random);
    if (order > 1) std::shuffle(blocks.begin(), blocks.end(), random);

    resident.resize(order > 1 ? std::min<size_t>(8, blocks.size()) : 1);
    std::vector<Block*> active;
    size_t next = 0;
    run.at = nullptr;
    for (Block& block : resident) {
        block.warps.assign((run.count + WARP - 1) / WARP, Warp());
        block.shared.resize(__stop_shared_memory - __start_shared_memory), block.dynamic_shared.resize(shared);
        active.push_back(&block);
        begin_block(block, blocks[next++]);
    }
    size_t stuck = 0, i = 0, more = 0;
    while (!active.empty() && !run.error[0]) {
        if (order > 1 && (!more-- || i >= active.size())) {  // another block; of odd orders, for many steps at a time
            i = random() % active.size();
            more = order % 2 ? random() % run.count : 0;
        }
        bring(*active[i]);
        if (step(order > 1)) stuck = 0;
        else if (++stuck > 64 * active.size())
            snprintf(run.error, sizeof run.error, "threads wait for each other for ever: not all reach the same barrier");
        if (active[i]->done < run.count) continue;
        if (next < blocks.size()) begin_block(*active[i], blocks[next++]), run.at = nullptr, bring(*active[i]);
        else active.erase(active.begin() + i), run.at = nullptr, i = order > 1 ? active.size() : 0;
    }
    if (run.error[0]) for (Block& block : resident) {
        for (Fiber* f : block.fibers) delete f;
        block.fibers.clear();
    }
    return run.error;
}
#endif

// As cuLaunchKernel: grid and block of 3, bytes of dynamic shared memory, pointers to the arguments.
// `order`: 0 in turn, 1 backwards, else shuffled by that seed. Returns what went wrong, or "".
template <class... A>
const char* launch(void (*kernel)(A...), const unsigned* size, size_t shared, void** values, unsigned order) {
    Call<A...> call{kernel, values};
    return run_grid(Call<A...>::body, &call, size, shared, order);
}

// The sizes of a kernel's parameters and what they are: p pointer, f floating point, i integer, s anything else.
template <class... A> int parameters(void (*)(A...), int* sizes, char* kinds) {
    int n = 0;
    ((sizes[n] = sizeof(A), kinds[n] = std::is_pointer<A>::value ? 'p' : std::is_floating_point<A>::value ? 'f'
        : std::is_integral<A>::value ? 'i' : 's', n++), ...);
    return n;
}
}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_EXPORT(name) \
    extern "C" __attribute__((visibility("default"))) const char* launch_##name(const unsigned* size, size_t shared, void** values, unsigned order) { \
        return cuda_on_cpu::launch(name, size, shared, values, order); \
    } \
    extern "C" __attribute__((visibility("default"))) int parameters_##name(int* sizes, char* kinds) { return cuda_on_cpu::parameters(name, sizes, kinds); }
