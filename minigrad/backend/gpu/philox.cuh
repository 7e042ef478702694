// Random numbers without a state: Philox-4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy
// as 1, 2, 3", section 3.3).
//
// Four words of 32 random bits are a function of a counter (128 bits) and a key (64 bits): ten rounds of
// multiplications that mix the counter with the key. So every thread makes its own numbers from where it stands, in any
// order, and makes the same ones again whenever they are needed again.
#pragma once

struct Random4 { unsigned words[4]; };

// The four words at place (low, high) of the stream that the key names.
__device__ __forceinline__ Random4 philox(unsigned long long low, unsigned long long high, unsigned long long key)
{
    unsigned a = (unsigned)low, b = (unsigned)(low >> 32), c = (unsigned)high, d = (unsigned)(high >> 32);
    unsigned k = (unsigned)key, l = (unsigned)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const unsigned a_low = 0xD2511F53u * a, a_high = __umulhi(0xD2511F53u, a);
        const unsigned c_low = 0xCD9E8D57u * c, c_high = __umulhi(0xCD9E8D57u, c);
        a = c_high ^ b ^ k, b = c_low, c = a_high ^ d ^ l, d = a_low;
        k += 0x9E3779B9u, l += 0xBB67AE85u;  // the golden ratio, and the square root of 3 less 1
    }
    return {{a, b, c, d}};
}
