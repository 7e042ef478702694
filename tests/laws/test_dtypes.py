"""What every public op does with integers and bools: the right value, or an error that says how to convert.

Claimed, of the whole table of ops: a result that is a real number is the one that the same numbers give in float64, to
the precision of the result's dtype; a result that stays an integer is NumPy's, which wraps around where it does not
fit; what is refused is refused with the word `.astype`, or is refused by NumPy too.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad import Tensor, ops
from tests.support.op_cases import CASES, SUBJECTS, named, results
from tests.support.strategies import TOLERANCE

few = settings(max_examples=max(settings.default.max_examples // 4, 1))
PUBLIC = {id(function) for function in map(vars(ops).get, ops.__all__)}
every_public_case = named(key for key in CASES if key in SUBJECTS and id(SUBJECTS[key]) in PUBLIC)


def as_integers(x, dtype):
    whole = np.rint(2 * x)
    return (np.abs(whole) if dtype[0] == "u" else whole).astype(dtype)


def as_numbers(value):
    return np.asarray(value.numpy() if isinstance(value, Tensor) else value).astype("f8")


def by_numpy(case, call):
    """What NumPy makes of the same call; None where it refuses it, or nobody says how to ask."""
    try:
        return results(call(case.reference)) if case.reference else None
    except Exception:
        return None


@every_public_case
@few
@given(st.data(), st.sampled_from(["u1", "i1", "u2", "i4", "i8", "u8", "?"]))
def test_integers_give_the_right_value_or_an_error_that_says_how_to_convert(key, data, dtype):
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    whole = [as_integers(x, dtype) for x in call.variables()]
    with np.errstate(all="ignore"):
        try:
            exact = results(call.with_tensors([x.astype("f8") for x in whole], Tensor)(subject))
        except Exception:  # not a matter of integers
            return
        theirs = by_numpy(case, call.with_variables(whole))
        try:
            found = results(call.with_tensors(whole, Tensor)(subject))
        except Exception as error:
            assert (isinstance(error, TypeError) and "astype" in str(error)) or theirs is None, error
            return
    for i, (y, e) in enumerate(zip(found, exact, strict=True)):
        if key[1] == "topk" and i:  # indices of numbers that are no longer distinct
            continue
        if theirs and y.dtype.kind != "f" and not np.array_equal(as_numbers(y), as_numbers(e)):
            e = theirs[i]
        tolerance = max(TOLERANCE.get(y.dtype, 0), 1e-11)
        np.testing.assert_allclose(as_numbers(y), as_numbers(e), rtol=tolerance, atol=tolerance)
