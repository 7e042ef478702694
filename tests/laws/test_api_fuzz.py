"""Whatever a public function is given, it works or says in its own name what was wrong.

No error comes from inside, and no nonsense is accepted.

A hostile call is one that works with some arguments replaced, see `support/api_fuzz.py`. The default profile makes few
calls, the same in every run; the deep one 200 of each subject, and new ones each time. A failure names its seed.
"""

import numpy as np
import pytest

from tests.support import api_subjects
from tests.support.api_fuzz import TooSlow, fault, hostile_calls

FAMILIES = ["ops", "methods", "layers", "losses", "functionals", "optimizers", "schedules"]
FEW, MANY = 6, 200


def faults(family: str, count: int, seed: int) -> list[str]:
    found = []
    for subject in getattr(api_subjects, family)():
        for call in hostile_calls(subject, count, seed):
            try:
                trouble = fault(call)
            except TooSlow:
                trouble = "takes too long"
            if trouble:
                found.append(f"{call}: {trouble}")
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hostile_call_works_or_is_answered_by_name(family, deep):
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if deep else 0
    found = faults(family, MANY if deep else FEW, seed)
    assert not found, "\n".join([f"{len(found)} faults with seed {seed}:", *found[:40]])


def test_a_fault_is_found():
    """The judge can say no: to an AttributeError, a message without a name, and a complex result."""

    def inside(x):
        return x.no_such_attribute

    def nameless(x):
        raise ValueError("wrong")

    def complex_result(x):
        return api_subjects.Tensor(np.ones(2, complex))

    for function in (inside, nameless, complex_result):
        subject = api_subjects.Subject(function.__name__, function, {"x": 1.0})
        assert all(fault(call) for call in hostile_calls(subject, 3, 0) if len(call.args) == 1 and not call.options)
