"""How thorough the property tests are, by MINIGRAD_TEST_PROFILE.

default : some minutes, and the same examples in every run, so that what passes here passes on the next machine
deep : many more, and new ones each time: this is the profile that looks for bugs
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from minigrad.autograd.primitive import OPS, primitive

EXAMPLES, DEEP = 60, 40
"""Examples of a property in the default profile, and how many times more the deep profile draws."""

_common = {
    "deadline": None,  # the machines are shared, and a slow example is no wrong one
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("default", max_examples=EXAMPLES, derandomize=True, **_common)
settings.register_profile("deep", max_examples=EXAMPLES * DEEP, **_common)
settings.register_profile("dev", max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate], **_common)
settings.load_profile(os.environ.get("MINIGRAD_TEST_PROFILE", "default"))


@pytest.fixture
def deep() -> bool:
    """Whether this run may take its time."""
    return os.environ.get("MINIGRAD_TEST_PROFILE") == "deep"


@pytest.fixture
def random() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def new_op():
    """`primitive`, whose ops leave the table again."""
    before = dict(OPS)
    yield primitive
    OPS.clear()
    OPS.update(before)
