"""Philox by the definition in the paper, in Python's whole numbers: with 64-bit words NumPy's, with 32-bit ones ours.

Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
"""

import numpy as np

CONSTANTS = {  # of each word's width: the two multipliers, and what is added to the two words of the key
    64: ((0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)),
    32: ((0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)),
}


def philox(counter, key, width=32, rounds=10):
    """Four words of a counter of four words and a key of two."""
    size, (multipliers, steps) = 1 << width, CONSTANTS[width]
    words, key = list(counter), list(key)
    for _ in range(rounds):
        high, low = zip(*(divmod(m * words[2 * i], size) for i, m in enumerate(multipliers)), strict=True)
        words = [high[1] ^ words[1] ^ key[0], low[1], high[0] ^ words[3] ^ key[1], low[0]]
        key = [(k + step) % size for k, step in zip(key, steps, strict=True)]
    return words


def dropped(shape, p, seed, position):
    """Which elements dropout drops, (shape) of bool, at a place of the stream; images counted channels last."""
    counted = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else tuple(shape)
    key, place = (seed % 2**32, seed >> 32), (position % 2**32, position >> 32)
    four = {}
    found = np.zeros(int(np.prod(counted)), bool)
    for i in range(found.size):
        draw = i // 128 * 32 + i % 32
        if draw not in four:
            four[draw] = philox((draw, 0, *place), key)
        found[i] = four[draw][i // 32 % 4] < p * 2**32
    found = found.reshape(counted)
    return np.moveaxis(found, -1, 1) if len(shape) == 4 else found
