"""How many digits of a result are right: every elementwise op against mpmath, over the whole range of every dtype.

The table, the points and the exceptions stand in `tests/support/exact.py`, which also prints what is found here.
"""

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

import minigrad as mg
from minigrad.autograd.primitive import OPS
from tests.support.exact import FLOATS, ROWS, arguments, derivatives, findings, limit

NOT_SMOOTH = {  # exact by nature, or tested as choices: no digits to lose
    *"clone where maximum minimum sign floor ceil trunc round remainder".split(),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ROWS)
def test_values_slopes_and_curvatures_are_right_to_a_few_units_over_the_whole_range(name, dtype, deep):
    for found in findings(name, dtype, thorough=10 if deep else 1, seed=np.random.randint(1 << 30) if deep else 0):
        assert found.error <= limit(found), (
            f"{name} of {dtype}, place {found.order} of its row, is {found.error:.1f} units in the last place off: "
            f"{found.found} for {found.exact} at {found.at}"
        )


@pytest.mark.parametrize("name", ROWS)
def test_the_tables_derivatives_are_mpmaths(name, random):
    """The oracle itself: its slopes and curvatures against differences at ordinary points, in 60 digits."""
    row = ROWS[name]
    with mp.workdps(60):
        for point in random.uniform(0.2, 0.8, (3, row.arguments)):
            place = [mpf(float(x)) + (1 if name == "arccosh" else 0) for x in point]
            orders = [(1,), (2,)] if row.arguments == 1 else [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
            for exact, order in zip(row.exact[1:], orders, strict=True):
                by_differences = mp.diff(row.exact[0], tuple(place), order)
                assert mpmath.almosteq(exact(*place), by_differences, 1e-20, 1e-20), (name, order, place)


@pytest.mark.parametrize("name", ROWS)
def test_forward_mode_pushes_the_slopes_that_reverse_mode_pulls(name):
    row = ROWS[name]
    arrays = arguments(row, "f4", np.random.default_rng(0))
    with np.errstate(all="ignore"):
        slopes = derivatives(row.op, arrays)[1 : 1 + row.arguments]
        for i, slope in enumerate(slopes):
            xs = [mg.tensor(x, requires_grad=i == k) for k, x in enumerate(arrays)]
            (pushed,) = mg.push(row.op(*xs), xs[i], np.ones_like(arrays[i]))
            np.testing.assert_array_equal(pushed.numpy(), slope)


def test_every_elementwise_op_has_a_row():
    known = {row.op.name for row in ROWS.values() if hasattr(row.op, "name")} | {name.split()[0] for name in ROWS}
    public = {name for name, op in OPS.items() if op.kind == "elementwise" and getattr(mg, name, None) is op}
    assert not public - NOT_SMOOTH - known, "no row in tests/support/exact.py"


# --- at infinity ---

INFINITE = {  # op: (value, slope) at -inf and at inf
    "sigmoid": ((0, 0), (1, 0)),
    "softplus": ((0, 0), (np.inf, 1)),
    "tanh": ((-1, 0), (1, 0)),
    "silu": ((0, 0), (np.inf, 1)),
    "gelu": ((0, 0), (np.inf, 1)),
    "elu": ((-1, 0), (np.inf, 1)),
    "relu": ((0, 0), (np.inf, 1)),
    "erf": ((-1, 0), (1, 0)),
    "arctan": ((-np.pi / 2, 0), (np.pi / 2, 0)),
    "arcsinh": ((-np.inf, 0), (np.inf, 0)),
    "exp": ((0, 0), (np.inf, np.inf)),
    "expm1": ((-1, 0), (np.inf, np.inf)),
    "reciprocal": ((0, 0), (0, 0)),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", INFINITE)
def test_at_infinity_values_and_slopes_are_their_limits(name, dtype):
    x = mg.tensor(np.array([-np.inf, np.inf], dtype), requires_grad=True)
    y = getattr(mg, name)(x)
    y.backward(np.ones(2, dtype))
    found = list(zip(y.detach().numpy(), x.grad.numpy(), strict=True))
    np.testing.assert_allclose(found, INFINITE[name], rtol=1e-3)
    assert np.isfinite(mg.gelu(mg.tensor([-np.inf]), "tanh").numpy()).all()


@pytest.mark.parametrize("value", [-np.inf, np.inf])
def test_two_equal_infinities_share_the_slope_of_logaddexp(value):
    a, b = (mg.tensor([value], requires_grad=True) for _ in range(2))
    mg.logaddexp(a, b).backward()
    assert a.grad.item() == b.grad.item() == 0.5
