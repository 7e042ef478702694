"""Every op in the engine's tables: its values against NumPy and SciPy, its derivatives against differences.

The tests walk the tables: an op that nobody gave a case in `op_cases` fails here, and so does a case without an op.
"""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Tensor, autograd, ops
from minigrad.autograd.primitive import OPS, Primitive
from tests.support.op_cases import CASES, SUBJECTS, every_case, every_differentiable_case, floats, named, results
from tests.support.strategies import INTEGERS, TOLERANCE, directions, laid_out, layouts, seeds

some = settings(max_examples=settings.default.max_examples // 2)
few = settings(max_examples=max(settings.default.max_examples // 4, 1))


every_silent_case = named(key for key, case in CASES.items() if key in SUBJECTS and not case.differentiable)
every_primitive = named(key for key in SUBJECTS if key[0] == "OPS")


def recorded(subject, call, dtype=None, layout="C"):
    """(tracked tensors, float results) of a call in the given dtype and layout."""
    tensors = [Tensor(laid_out(x.astype(dtype or x.dtype), layout)).requires_grad_() for x in call.variables()]
    return tensors, floats(call.with_variables(tensors)(subject))


# --- the tables ---


def test_every_op_and_composite_has_a_case_and_every_case_an_op():
    missing, stray = SUBJECTS.keys() - CASES.keys(), CASES.keys() - SUBJECTS.keys()
    assert not missing, f"no case in tests/support/op_cases for {sorted(missing)}: say there how to call them"
    assert not stray, f"cases in tests/support/op_cases for {sorted(stray)}, which the engine's tables do not have"


def test_every_public_op_stands_in_a_table():
    known = {id(subject) for subject in SUBJECTS.values()}
    public = {name: f for name, f in vars(ops).items() if callable(f) and not name.startswith("_")}
    homeless = [name for name, function in public.items() if id(function) not in known]
    assert not homeless, f"{homeless} are public in minigrad.ops but neither @primitive nor @composite"


@every_primitive
def test_a_differentiable_primitive_has_both_rules_for_every_argument(key):
    op = SUBJECTS[key]
    if not op.differentiable:
        assert not op.vjp_rules and not op.jvp_rules, f"{op.name} carries no gradient but has rules"
        return
    if op.fused_vjp:
        assert op.reference, f"{op.name}: a fused vjp needs a composite reference for second derivatives"
        return
    for name in op.argument_names:
        assert name in op.vjp_rules, f"{op.name} has no vjp rule, not even None, for {name!r}"
        follows = op.kind in ("elementwise", "linear")
        assert follows or name in op.jvp_rules, f"{op.name} has no jvp rule, not even None, for {name!r}"


@every_primitive
def test_a_primitive_has_a_docstring_and_the_words_a_picture_needs(key):
    op = SUBJECTS[key]
    assert op.name.startswith(tuple("abcdefghijklmnopqrstuvwxyz")) and op.symbol
    public = getattr(ops, op.name, None) is op
    assert op.__doc__ or not public, f"{op.name} is public and has no docstring"
    assert op.local or not op.differentiable, f"{op.name} does not say its local derivative in words"


# --- values ---


@every_case
@some
@given(st.data())
def test_values_and_dtypes_are_numpys_in_every_dtype_and_layout(key, data):
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    arrays, dtype = [], None
    for x in call.variables():
        if case.mixed or dtype is None:
            dtype = np.dtype(data.draw(st.sampled_from(case.dtypes)))
        arrays.append(laid_out(x.astype(dtype), data.draw(layouts(repeating=not case.distinct))))
    before = [x.copy() for x in arrays]

    with np.errstate(all="ignore"):
        found = results(call.with_tensors(arrays, Tensor)(subject))
        plain = results(call.with_variables(arrays)(subject))
        given_dtype = results(call.with_variables(arrays)(case.reference))
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]
        expected = results(call.with_variables(wide)(case.reference))
    assert len(found) == len(expected)
    dtypes = [x.dtype for x in arrays]
    for y, p, like, exact in zip(found, plain, given_dtype, expected, strict=True):
        exact, like = np.asarray(exact), np.asarray(like)
        dtype = like.dtype
        if case.differentiable and np.result_type(*dtypes).kind == "f" and y.dtype.kind == "f":
            dtype = np.result_type(*dtypes)
        if case.result_dtype:
            dtype = case.result_dtype(*dtypes)
        assert isinstance(y, Tensor)
        assert y.shape == exact.shape, f"shape {y.shape}, expected {exact.shape}"
        assert y.dtype == dtype, f"dtype {y.dtype} of inputs {[str(d) for d in dtypes]}, expected {dtype}"
        assert not isinstance(p, Tensor), f"{key[1]} of plain arrays gave a Tensor"
        np.testing.assert_array_equal(np.asarray(p), y.numpy(), f"{key[1]} of arrays differs from that of Tensors")
        if y.dtype.kind != "f":
            np.testing.assert_array_equal(y.numpy(), exact)
            continue
        coarsest = max(TOLERANCE[d] for d in [y.dtype, *dtypes] if d in TOLERANCE)
        scale = np.abs(exact[np.isfinite(exact)]).max(initial=1.0)
        np.testing.assert_allclose(y.numpy().astype(float), exact, rtol=coarsest, atol=coarsest * scale)
    for x, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, old, f"{key[1]} changed its input")


# --- derivatives ---


@every_differentiable_case
@some
@given(st.data())
def test_derivatives_agree_with_differences(key, data):
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    inputs = [mg.tensor(x, requires_grad=True) for x in call.variables()]
    mg.gradcheck(lambda *xs: call.with_variables(xs)(subject), inputs, directions=1, seed=data.draw(st.integers(0, 99)))


@named(key for key, case in CASES.items() if key in SUBJECTS and case.differentiable)
@few
@given(st.data())
def test_second_derivatives_agree_with_differences(key, data):
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    inputs = [mg.tensor(x, requires_grad=True) for x in call.variables()]
    mg.gradgradcheck(
        lambda *xs: call.with_variables(xs)(subject), inputs, directions=1, seed=data.draw(st.integers(0, 99))
    )


@every_differentiable_case
@some
@given(st.data())
def test_forward_and_reverse_mode_are_each_others_adjoint_in_every_layout(key, data):
    """<v, J u> = <J' v, u>, and J u by a complex step, on inputs that lie in memory any way."""
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    layout = data.draw(layouts(repeating=False))
    tensors, ys = recorded(subject, call, layout=layout)
    us = [data.draw(directions(x.shape)) for x in tensors]
    vs = [data.draw(directions(y.shape)) for y in ys]

    pushed = mg.push(ys, tensors, us)
    again = mg.push(ys, tensors, us, create_graph=True)
    pulled = autograd.grad(ys, tensors, vs, retain_graph=True, allow_unused=True)
    recorded_pull = autograd.grad(ys, tensors, vs, create_graph=True, allow_unused=True)

    forward = sum(float((v * t.numpy()).sum()) for v, t in zip(vs, pushed, strict=True) if t is not None)
    reverse = sum(float((g.numpy() * u).sum()) for g, u in zip(pulled, us, strict=True) if g is not None)
    size = 1 + sum(float(np.abs(v * t.numpy()).sum()) for v, t in zip(vs, pushed, strict=True) if t is not None)
    assert abs(forward - reverse) <= 1e-11 * size, f"<v, Ju> = {forward} but <J'v, u> = {reverse}"
    for plain, graph in (*zip(pushed, again, strict=True), *zip(pulled, recorded_pull, strict=True)):
        assert (plain is None) == (graph is None)
        if plain is not None:
            np.testing.assert_allclose(plain.numpy(), graph.detach().numpy(), rtol=1e-10, atol=1e-11 * size)
    if case.complex_reference:
        step = 1e-20
        moved = [x.numpy() + 1j * step * u for x, u in zip(tensors, us, strict=True)]
        with np.errstate(all="ignore"):
            exact = results(call.with_variables(moved)(case.complex_reference))
        for t, y in zip(pushed, exact, strict=True):
            found = 0 if t is None else t.numpy()
            np.testing.assert_allclose(found, np.imag(y) / step, rtol=1e-9, atol=1e-10 * size)


@every_differentiable_case
@few
@given(st.data())
def test_gradients_share_no_memory_and_have_their_inputs_shape_and_dtype(key, data):
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    tensors, ys = recorded(subject, call, np.float32)
    before = [x.numpy().copy() for x in tensors]
    seeds = [np.asarray(data.draw(directions(y.shape)), y.dtype) for y in ys]
    outputs = [y.numpy().copy() for y in ys]
    for i, (y, v) in enumerate(zip(ys, seeds, strict=True)):
        y.backward(v, retain_graph=i + 1 < len(ys))
    grads = [x.grad.data for x in tensors if x.grad is not None]
    for x, old in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(x.numpy(), old, "the backward pass changed an input")
        if x.grad is not None:
            assert x.grad.shape == x.shape and x.grad.dtype == np.float32
    for y, old in zip(ys, outputs, strict=True):
        np.testing.assert_array_equal(y.numpy(), old, "the backward pass changed the output")
    others = [x.data for x in tensors] + [y.data for y in ys] + seeds
    for i, g in enumerate(grads):
        for other in others:
            assert not np.shares_memory(g, other), "a gradient shares memory with an input, an output or the seed"
        for other in grads[i + 1 :]:
            assert not np.shares_memory(g, other), "two leaves' gradients share memory"


@every_primitive
@few
@given(st.data())
def test_rules_on_float32_arrays_stay_in_float32(key, data):
    """The engine would cast a float64 gradient back, in silence, after it had cost twice the time and memory."""
    op, case = SUBJECTS[key], CASES[key]
    if not op.differentiable or key[1] == "cast":
        return
    _, ys = recorded(op, data.draw(case.calls), np.float32)
    if not ys or ys[0].node is None:
        return
    node = ys[0].node
    gradient = np.asarray(data.draw(directions(node.shape)), np.float32)
    if node.plan.fused:
        rule, pick = node.plan.fused
        found = [g for g in rule(gradient, *(pick or tuple)(node.saved)) if g is not None]
        assert all(g.dtype == np.float32 for g in found), f"the fused vjp gave {[str(g.dtype) for g in found]}"
        return
    for position, rule, pick, _ in node.plan.steps:
        found = rule(gradient, *(pick or tuple)(node.saved))
        assert found.dtype == np.float32, f"the vjp rule of argument {position} gave {found.dtype}"
    for position, rule, pick in node.plan.jvp_steps:
        parent = node.parents[position]
        found = rule(np.ones(parent.shape, np.float32), *(pick or tuple)(node.saved))
        assert found.dtype == np.float32, f"the jvp rule of argument {position} gave {found.dtype}"


@every_silent_case
@few
@given(st.data())
def test_an_op_that_is_not_differentiable_carries_no_gradient(key, data):
    case, subject = CASES[key], SUBJECTS[key]
    call = data.draw(case.calls)
    tensors = [Tensor(x).requires_grad_() for x in call.variables()]
    for y in results(call.with_tensors(tensors, Tensor)(subject)):
        assert not y.requires_grad


# --- what `kind` promises ---


@named(key for key in SUBJECTS if key[0] == "OPS" and SUBJECTS[key].kind == "linear")
@few
@given(st.data())
def test_a_linear_op_is_linear_in_each_argument(key, data):
    op = SUBJECTS[key]
    call = data.draw(CASES[key].calls)
    arrays = call.variables()
    for i, x in enumerate(arrays):
        other = data.draw(directions(x.shape))

        def of(value, i=i):
            return np.asarray(call.with_variables([*arrays[:i], value, *arrays[i + 1 :]])(op))

        expected = 2.5 * of(x) - 0.5 * of(other)
        found = of(np.asarray(2.5 * x - 0.5 * other))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10, err_msg=f"not linear in argument {i}")


@named(key for key in SUBJECTS if key[0] == "OPS" and SUBJECTS[key].kind == "elementwise")
@few
@given(st.data())
def test_an_elementwise_op_has_a_diagonal_jacobian(key, data):
    op = SUBJECTS[key]
    call = data.draw(CASES[key].calls)
    arrays = call.variables()
    shape = np.asarray(call(op)).shape
    full = [np.broadcast_to(x, shape).copy() for x in arrays]
    assert np.asarray(call.with_variables(full)(op)).shape == shape
    if not np.prod(shape):
        return
    random = data.draw(seeds())
    place = tuple(int(random.integers(n)) for n in shape)
    for i, x in enumerate(full):
        moved = x.copy()
        moved[place] *= 1.001
        with np.errstate(all="ignore"):
            old = np.asarray(call.with_variables(full)(op))
            new = np.asarray(call.with_variables([*full[:i], moved, *full[i + 1 :]])(op))
        others = np.ones(shape, bool)
        others[place] = False
        np.testing.assert_array_equal(new[others], old[others], f"argument {i} at {place} moved other places")


# --- promotion ---

ARITHMETIC = ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "remainder", "floor_divide"]


@pytest.mark.parametrize("name", ARITHMETIC)
@given(st.data())
def test_arithmetic_promotes_as_numpy_2(name, data):
    """Arrays promote together; Python numbers are weak and leave float32 as it is; NumPy scalars are not weak."""
    # NumPy 2.0 and 2.1 keep float16 in `float16 ** numpy.float32`, where numpy.power does not: we promise the operator
    op, reference = getattr(mg, name), operator.pow if name == "power" else getattr(np, name)
    kinds = ("f2", "f4", "f8", *INTEGERS)
    a = np.arange(1, 4).astype(data.draw(st.sampled_from(kinds)))
    number = data.draw(st.sampled_from([2, 2.0, True, np.float32(2), np.float64(2), np.int64(2), np.int8(2)]))
    b = number if data.draw(st.booleans()) else np.arange(2, 5).astype(data.draw(st.sampled_from(kinds)))
    b_tensor = mg.tensor(b) if isinstance(b, np.ndarray) else b
    for found, expected in (
        (op(mg.tensor(a), b_tensor), reference(a, b)),
        (op(b_tensor, mg.tensor(a)), reference(b, a)),
    ):
        assert found.dtype == expected.dtype, f"{name} of {a.dtype} and {b!r} gave {found.dtype}, not {expected.dtype}"
        np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", [n for n in ARITHMETIC if n != "floor_divide"])
@pytest.mark.parametrize("number", [2, 2.0, 0.5, True, 0, 1])
@pytest.mark.parametrize("first", [True, False])
def test_rules_of_arithmetic_with_a_python_number_stay_in_float32(name, number, first):
    if not number and name in ("divide", "remainder"):
        return
    x = mg.tensor([1.25, 2.7], requires_grad=True)
    y = getattr(mg, name)(number, x) if first else getattr(mg, name)(x, number)
    assert y.dtype == np.float32
    for _, rule, pick, _ in y.node.plan.steps:
        assert rule(np.ones(2, np.float32), *(pick or tuple)(y.node.saved)).dtype == np.float32
    mg.gradcheck(
        lambda x: getattr(mg, name)(number, x) if first else getattr(mg, name)(x, number),
        x.detach().astype("f8").requires_grad_(),
    )


def test_the_table_of_ops_holds_primitives_under_their_own_names():
    for name, op in OPS.items():
        assert isinstance(op, Primitive) and op.name == name
