"""Counter-based random numbers: the paper's known answers, NumPy's generator of the same family, our two bodies."""

import numpy as np
import pytest

from minigrad.backend.gpu.launching import text_of
from minigrad.backend.plain.dropout import philox
from tests.support import philox as definition
from tests.support.cuda import compiling

needs_compiler = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

KNOWN = [  # the known-answer vectors that the authors publish with Random123 for philox4x32-10: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

KERNEL = """
{header}
extern "C" __global__ void draw(const unsigned long long* places, int count, unsigned* words)
{{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const Random4 random = philox(places[3 * i], places[3 * i + 1], places[3 * i + 2]);
    for (int k = 0; k < 4; k++) words[4 * i + k] = random.words[k];
}}
"""


def halves(four_or_two):
    """Words of 32 bits joined in pairs, the first one below."""
    return [low | high << 32 for low, high in zip(four_or_two[::2], four_or_two[1::2], strict=True)]


def cases():
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 2**32, (50, 6), dtype=np.uint64).tolist()
    some = [(row[:4], row[4:], definition.philox(row[:4], row[4:])) for row in drawn]
    return [*KNOWN, *some]


def test_the_definition_in_64_bit_words_is_numpys_philox():
    for seed in range(5):
        counter, key = ([int(n) for n in np.random.default_rng(seed).integers(0, 2**63, size)] for size in (4, 2))
        theirs = np.random.Philox(counter=np.array(counter, np.uint64), key=np.array(key, np.uint64)).random_raw(4)
        counter[0] += 1  # NumPy counts before it draws
        assert definition.philox(counter, key, width=64) == theirs.tolist()


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_the_definition_in_32_bit_words_has_the_known_answers(counter, key, words):
    assert tuple(definition.philox(counter, key)) == words


def test_the_array_code_is_the_definition():
    for counter, key, words in cases():
        low, high = (np.array([half], np.uint64) for half in halves(counter))
        found = philox((low, high), np.array(halves(key), np.uint64))
        assert [int(word[0]) for word in found] == list(words)


@needs_compiler
def test_the_kernels_header_is_the_definition():
    module = compiling.RawModule(code=KERNEL.format(header=text_of("philox.cuh")))
    places = np.array([[*halves(counter), *halves(key)] for counter, key, _ in cases()], np.uint64)
    words = np.zeros((len(places), 4), np.uint32)
    module.get_function("draw")((2,), (32,), (places, np.int32(len(places)), words))
    np.testing.assert_array_equal(words, [words for *_, words in cases()])
