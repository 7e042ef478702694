"""Derivatives asked for in a wrong way: never a wrong number, always an error that says what to do.

Three claims are held over every op in the tables: a second backward pass is refused or right; so is one after an
argument, and one after the result, was overwritten. The rest goes through what people do wrong, one by one.
"""

import contextlib
import gc
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GradientError, ShapeError, Tensor, autograd, nn, optim
from tests.support.op_cases import CASES, SUBJECTS

few = settings(max_examples=max(settings.default.max_examples // 6, 2))
every_differentiable_case = pytest.mark.parametrize(
    "key", [pytest.param(k, id=".".join(k)) for k, case in CASES.items() if k in SUBJECTS and case.differentiable]
)


def leaf(*values, dtype="f8"):
    return mg.tensor(np.asarray(values if len(values) > 1 else values[0], dtype), requires_grad=True)


# --- every op: the right number, or an error ---


def recorded(key, call, keep=True):
    """Tracked copies of the call's variables, its results, and one number made of these, keeping them for its rules."""
    leaves = [mg.tensor(x.copy(), requires_grad=True) for x in call.variables()]
    results = call.with_variables(leaves)(SUBJECTS[key])
    results = results if isinstance(results, (list, tuple)) else [results]
    results = [y for y in results if y.requires_grad]
    weights = np.random.default_rng(3)
    parts = [y * (mg.cos(y) if keep else weights.standard_normal(y.shape)) for y in results]
    return leaves, results, sum(part.sum() for part in parts)


def gradients(leaves, total, **options):
    found = autograd.grad(total, leaves, allow_unused=True, **options)
    return [None if g is None else g.detach().numpy() for g in found]


def assert_equal(found, expected, tolerance=0.0):
    for here, there in zip(found, expected, strict=True):
        assert (here is None) == (there is None)
        if here is not None:
            np.testing.assert_allclose(here, there, rtol=tolerance, atol=tolerance)


@every_differentiable_case
@few
@given(st.data())
def test_a_second_pass_is_refused_in_words_or_gives_the_same_bits(key, data):
    leaves, results, total = recorded(key, data.draw(CASES[key].calls))
    if not results:
        return
    first = gradients(leaves, total, retain_graph=True)
    assert_equal(gradients(leaves, total), first)
    with pytest.raises(GradientError, match=r"derivative through \w+: its saved values were freed.*retain_graph=True"):
        gradients(leaves, total)


@every_differentiable_case
@few
@given(st.data())
def test_after_an_argument_was_overwritten_the_gradient_is_right_or_refused(key, data):
    call = data.draw(CASES[key].calls)
    leaves, results, total = recorded(key, call)
    if not results:
        return
    expected = gradients(leaves, total, retain_graph=True)
    victim = data.draw(st.sampled_from(leaves))
    victim.copy_(victim.numpy() * 0.5 + 0.1)
    for create_graph in (True, False):
        try:
            found = gradients(leaves, total, create_graph=create_graph)
        except GradientError as error:
            assert "changed in place" in str(error)
        else:
            assert_equal(found, expected, 1e-11 if create_graph else 0)  # a recorded pass may sum in another order


@every_differentiable_case
@few
@given(st.data())
def test_after_a_result_was_overwritten_by_hand_the_gradient_is_right_or_refused(key, data):
    leaves, results, total = recorded(key, data.draw(CASES[key].calls), keep=data.draw(st.booleans()))
    results = [y for y in results if y.ndim and y.data.flags.writeable]  # the others cannot be written to
    if not results:
        return
    expected = gradients(leaves, total, retain_graph=True)
    victim = data.draw(st.sampled_from(results))
    victim.data[...] = victim.data * 0.5 + 0.1
    victim.touch()
    try:
        found = gradients(leaves, total)
    except GradientError as error:
        assert "changed in place" in str(error)
    else:
        assert_equal(found, expected)


# --- whoever writes to a parameter between forward and backward ---

WRITERS = {
    "copy_": lambda w: w.copy_(np.zeros((2, 2))),
    "touch after a write by hand": lambda w: (w.data.fill(0), w.touch()),
    "touch of a view": lambda w: (w.T.data.fill(0), w.T.touch()),
    "touch of a view of a view": lambda w: w.T[:1].touch(),
    "an initialiser": lambda w: nn.init.zeros_(w),
    "SGD": lambda w: optim.SGD([w], lr=0.1).step(),
    "SGD with momentum": lambda w: optim.SGD([w], lr=0.1, momentum=0.9).step(),
    "Adam": lambda w: optim.Adam([w], lr=0.1).step(),
    "AdamW": lambda w: optim.AdamW([w], lr=0.1).step(),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("use", [lambda w: w * w, lambda w: w.T @ w, lambda w: w[0] * w[1]], ids=["*", "@", "[]"])
def test_a_write_between_forward_and_backward_is_an_error_that_names_op_argument_and_remedy(name, use):
    w = nn.Parameter(np.arange(4.0).reshape(2, 2))
    w.name = "weight"
    w.grad = mg.ones_like(w)
    y = use(w).sum()
    WRITERS[name](w)
    with pytest.raises(GradientError, match=r"(multiply|matmul): its argument '[ab]' \(weight\).*run the forward pass"):
        y.backward()
    with pytest.raises(GradientError, match="changed in place"):
        mg.push(y, w, np.ones((2, 2)))
    np.testing.assert_array_equal(w.grad.numpy(), np.ones((2, 2)), "the failed pass left a gradient")


def test_what_was_copied_from_a_parameter_outlives_a_write_to_it():
    """Reading at an array of places, or a turned matrix as a vector, makes a copy: the graph has all it needs."""
    w, v = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0)
    y = (w[np.array([0, 2])] * v).sum()
    w.copy_(np.zeros(3))
    y.backward()
    assert w.grad.tolist() == [4, 0, 5] and v.grad.tolist() == [1, 3]
    w = leaf([1.0, 2.0], [3.0, 4.0])
    y = (w.T.reshape(4) * mg.arange(4.0)).sum()
    z = (w.T.reshape(4) ** 2).sum()
    w.copy_(np.zeros((2, 2)))
    (y + z).backward()
    assert w.grad.tolist() == [[2, 6], [7, 11]]


def test_loading_a_state_between_forward_and_backward_is_found_too():
    layer = nn.Linear(2, 2)
    y = (layer(layer(mg.ones(1, 2)))).sum()
    layer.load_state_dict({name: value * 2 for name, value in layer.state_dict().items()})
    with pytest.raises(GradientError, match=r"linear: its argument 'weight'.*changed in place"):
        y.backward()


@pytest.mark.parametrize(
    "f", [mg.exp, lambda w: mg.relu(w.T[0]) * 2.0, mg.nn.Linear(2, 2)], ids=["exp", "view", "layer"]
)
def test_a_checkpoint_does_not_run_again_on_what_was_changed(f):
    """exp and relu save their result alone, which a second run would make of other values."""
    w = leaf([[0.5, 1.0], [-2.0, 3.0]], dtype="f4")
    y = mg.transforms.checkpoint(f)(w).sum()
    mg.transforms.checkpoint(f)(w * 1.0).sum().backward()
    w.copy_(np.zeros((2, 2)))
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()
    w.grad = None
    mg.transforms.checkpoint(f)(w).sum().backward()
    assert w.grad is not None


def test_a_checkpointed_function_may_take_numbers_out_while_the_pass_is_recorded():
    seen = []

    def f(x):
        seen.append((x.item(), float(x)))
        return x**3

    x = leaf(0.5)
    (g,) = autograd.grad(mg.transforms.checkpoint(f)(x), x, create_graph=True)
    (gg,) = autograd.grad(g, x)
    assert (g.item(), gg.item()) == (0.75, 3) and seen == [(0.5, 0.5)] * 2


def test_a_result_that_its_own_rule_needs_may_not_be_changed_either():
    x = leaf(1.0, 2.0)
    y = mg.exp(x)
    total = y.sum()
    y.data *= 2
    y.touch()
    with pytest.raises(GradientError, match=r"exp: its result \(2,\) was changed in place"):
        total.backward()


@pytest.mark.parametrize("change", [lambda x: x.requires_grad_(False), lambda x: x.replace_data(np.ones(2, "f4"))])
def test_a_leaf_that_asks_no_longer_gets_nothing_and_the_others_get_theirs(change):
    x, other = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (x * other).sum()
    change(x)
    y.backward()
    assert x.grad is None
    np.testing.assert_array_equal(other.grad.numpy(), [1, 2])


# --- gradients of what has none ---

NO_GRADIENT = {
    "integers": (
        lambda: autograd.grad(leaf(1.0) * 2, mg.tensor([1, 2])),
        ["int64", "floating-point", ".astype(float)"],
    ),
    "a comparison": (lambda: (leaf(1.0, 2.0) > 1).sum().backward(), ["int64", "comparisons", "floating-point"]),
    "a cast to integers": (lambda: leaf(1.0, 2.0).astype("i8").sum().backward(), ["int64", "pass none on"]),
    "an argmax": (lambda: mg.argmax(leaf(1.0, 2.0)).backward(), ["int64", "indices"]),
    "what was computed under no_grad": (lambda: mg.no_grad()(mg.exp)(leaf(1.0)).backward(), ["outside of no_grad()"]),
    "what was detached": (lambda: mg.exp(leaf(1.0)).detach().backward(), ["requires_grad=True"]),
    "an input that is not tracked": (lambda: autograd.grad(leaf(1.0) * 2, mg.ones(2)), ["an input", "(2,)"]),
    "no numbers at all": (lambda: mg.exp(mg.zeros(0, requires_grad=True)).backward(), ["(0,)", "single number"]),
    "an output of several numbers": (lambda: autograd.grad(leaf(1.0, 2.0) * 2, leaf(1.0)), ["(2,)", ".sum()"]),
    "an input that is not used": (
        lambda: autograd.grad(leaf(1.0) * 2, leaf(1.0)),
        ["input number 0", "allow_unused=True", "materialize_grads=True"],
    ),
    "push after the graph was freed": (
        lambda: [(y.backward(), mg.push(y, x, np.float64(1))) for x in [leaf(1.0)] for y in [x * x]],
        ["derivative through multiply", "freed", "retain_graph=True"],
    ),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_gradient_that_is_not_there_is_refused_in_words(name):
    call, words = NO_GRADIENT[name]
    with pytest.raises(GradientError) as caught:
        call()
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert mg.is_grad_enabled()


@pytest.mark.parametrize("create_graph", [False, True])
def test_unused_inputs_give_none_or_zeros_as_pytorchs(create_graph):
    torch = pytest.importorskip("torch")
    values = np.array([[1.0, 2.0]], "f4"), np.array([3.0], "f8")

    def both(library, **options):
        x, unused = (library.tensor(v, requires_grad=True) for v in values)
        grad = library.autograd.grad
        return grad((x * x).sum(), [x, unused], create_graph=create_graph, **options)

    for options in ({"materialize_grads": True}, {"allow_unused": True, "materialize_grads": True}):
        for ours, theirs in zip(both(mg, **options), both(torch, **options), strict=True):
            np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy(), strict=True)
    assert both(mg, allow_unused=True)[1] is None and both(torch, allow_unused=True)[1] is None
    for library, error in ((mg, GradientError), (torch, RuntimeError)):
        with pytest.raises(error):
            both(library)
        with pytest.raises(ValueError, match="materialize_grads=True"):
            both(library, allow_unused=False, materialize_grads=True)


def test_a_gradient_put_there_by_hand_must_have_its_tensors_dtype():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"a float64 Tensor of shape \(2,\), got int64"):
        x.grad = mg.tensor([1, 2])


# --- hooks ---


@pytest.mark.parametrize("given", [[10, 20], np.array([10, 20]), np.array([10.0, 20.0], "f2"), mg.tensor([10.0, 20.0])])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hooks_gradient_is_brought_to_its_tensors_dtype(given, create_graph):
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: given)
    (x * 2).sum().backward(create_graph=create_graph)
    assert x.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.detach().numpy(), [10, 20])


@pytest.mark.parametrize(
    "given, error, words",
    [(2.0, ShapeError, r"hook returned shape \(\).*\(2,\)"), ("twice", TypeError, "dtype"), ({}, TypeError, "dtype")],
)
def test_a_hook_that_returns_no_gradient_is_refused(given, error, words):
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: given)
    with pytest.raises(error, match=words):
        (x * 2).sum().backward()
    assert x.grad is None and mg.is_grad_enabled()


def test_a_hook_must_be_a_function():
    with pytest.raises(TypeError, match=r"register_hook\(\): expected a function of the gradient, got str"):
        leaf(1.0).register_hook("print")


def test_an_error_in_a_hook_comes_through_and_leaves_the_engine_as_it_was():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: 1 / 0)
    for create_graph in (False, True):
        with pytest.raises(ZeroDivisionError):
            (x * 2).backward(create_graph=create_graph)
    handle.remove()
    (x * 2).backward()
    assert x.grad.item() == 2 and mg.is_grad_enabled()


# --- ops of the user's own, half done ---


@pytest.mark.parametrize("kind", ["elementwise", "linear", "general"])
def test_an_op_without_rules_works_until_its_derivative_is_asked_for(new_op, kind):
    @new_op(kind=kind)
    def twice(x):
        return 2 * x

    x, other = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (twice(x) + other).sum()
    np.testing.assert_array_equal(twice(x).detach().numpy(), [2, 4])
    (g,) = autograd.grad(y, other, retain_graph=True)  # does not lead through it
    np.testing.assert_array_equal(g.numpy(), [1, 1])
    with pytest.raises(GradientError, match=r"twice has no vjp rule for its argument 'x'.*twice\.defvjp\(x="):
        y.backward()
    if kind != "linear":  # a linear op is its own jvp
        with pytest.raises(GradientError, match=r"twice has no jvp rule for its argument 'x'.*twice\.defjvp\(x="):
            mg.push(y, x, np.ones(2))


def test_an_op_that_gives_integers_cannot_be_differentiable(new_op):
    @new_op
    def signs(x):
        return (x > 0).astype(int)

    signs.defvjp(x=lambda g: g)
    with pytest.raises(TypeError, match=r"signs: its forward returned int64.*differentiable=False"):
        signs(leaf(1.0))
    assert signs(mg.tensor(1.0)).item() == 1


# --- the second derivative: there, or refused ---

# x -> x^3 with a rule that loses the derivative of 3 x^2 by taking numbers out of a Tensor
LOSING_RULES = {
    "float": lambda g, x: g * (3 * float(x) ** 2),
    "item": lambda g, x: g * (3 * x.item() ** 2),
    "int": lambda g, x: g * (3 * (int(x * 1e15) / 1e15) ** 2),
    "complex": lambda g, x: g * (3 * abs(complex(x)) ** 2),
    "math": lambda g, x: g * (3 * math.pow(x, 2)),
    "tolist": lambda g, x: g * (3 * x.tolist() ** 2),
    "format": lambda g, x: g * (3 * float(f"{x:.17g}") ** 2),
    "a NumPy scalar": lambda g, x: g * (3 * np.float64(x) ** 2),
    "numpy()": lambda g, x: g * (3 * x.numpy() ** 2) if isinstance(x, Tensor) else g * (3 * x**2),
    "of the gradient": lambda g, x: float(g) * (3 * x * x),
}


@pytest.mark.parametrize("name", LOSING_RULES)
def test_a_rule_that_takes_numbers_out_of_tensors_gives_no_second_derivative(new_op, name):
    @new_op(kind="elementwise")
    def cube(x):
        return x**3

    cube.defvjp(x=LOSING_RULES[name])
    x = leaf(0.5)
    cube(x).backward()
    np.testing.assert_allclose(x.grad.item(), 0.75, rtol=1e-12)
    with pytest.raises((GradientError, TypeError), match=r"detach\(\)"):
        autograd.grad(cube(x) ** 2, x, create_graph=True)
    if name != "of the gradient":  # a tangent to start from is a constant
        with pytest.raises((GradientError, TypeError), match=r"detach\(\)"):
            mg.push(cube(x), x, np.float64(1), create_graph=True)
    assert mg.is_grad_enabled() and f"{x:.1f} {float(x)}" == "0.5 0.5", "the refusal stayed on"


def test_a_rule_may_look_at_tensors_branch_on_them_and_hold_them_constant_in_words(new_op):
    seen = []

    @new_op(kind="elementwise")
    def cube(x):
        return x**3

    def rule(g, x):
        seen.append(repr(x))
        if x and x > 0 and not (x == 1).any() and x.detach().item() < 1:
            return g * (3 * x * x)
        raise AssertionError("the wrong branch")

    cube.defvjp(x=rule)
    x = leaf(0.5)
    (g,) = autograd.grad(cube(x), x, create_graph=True)
    (gg,) = autograd.grad(g, x)
    assert (g.item(), gg.item()) == (0.75, 3) and "cube" not in seen[0]


def test_hooks_may_take_numbers_out_while_the_pass_is_recorded():
    x, seen = leaf(0.5), []
    y = x * x
    y.register_hook(lambda g: seen.append((g.item(), float(x), y.numpy().tolist())))
    (g,) = autograd.grad(mg.sin(y), x, create_graph=True)
    assert seen == [(math.cos(0.25), 0.5, 0.25)] and g.requires_grad


@pytest.fixture
def cube_with_residual(new_op):
    @new_op(residuals=("slope", "positive"))
    def cube(x, y=None):
        return x**3 + (0 if y is None else y), 3 * x * x, x > 0

    cube.defvjp(x=lambda g, slope, positive: g * slope * (2 * positive - 1), y=lambda g: g)
    cube.defjvp(x=lambda t, slope, positive: t * slope * (2 * positive - 1), y=lambda t: t)
    return cube


def test_a_rule_that_uses_a_residual_gives_the_first_derivative_and_refuses_the_second(cube_with_residual):
    x, y = leaf(0.5), leaf(0.25)
    for first in (
        lambda: autograd.grad(cube_with_residual(x, y), [x, y], create_graph=True),
        lambda: mg.push([cube_with_residual(x, y), y * 1.0], [x, y], [np.ones(()), np.ones(())], create_graph=True),
    ):
        g, _ = first()
        assert g.item() in (0.75, 1.75)
        with pytest.raises(GradientError, match=r"no second derivative.*'slope'.*reference.*bools or integers"):
            autograd.grad(g, x)


def test_a_derivative_that_does_not_lead_through_the_residual_is_given(cube_with_residual):
    x, y = leaf(0.5), leaf(0.25)
    (g,) = autograd.grad(cube_with_residual(x, y) * mg.sin(y), y, create_graph=True)
    (gg,) = autograd.grad(g, y)  # d/dy (sin y + (x^3 + y) cos y)
    np.testing.assert_allclose(gg.item(), 2 * np.cos(0.25) - (0.125 + 0.25) * np.sin(0.25), rtol=1e-12)


def test_a_residual_of_integers_or_bools_counts_as_constant(new_op):
    @new_op(residuals=("positive",))
    def cubed_size(x):
        positive = x > 0
        return np.where(positive, x**3, -(x**3)), positive

    cubed_size.defvjp(x=lambda g, x, positive: g * (3 * x * x) * (2 * positive - 1.0))
    cubed_size.defjvp(x=lambda t, x, positive: t * (3 * x * x) * (2 * positive - 1.0))
    mg.gradgradcheck(cubed_size, leaf(0.5, -0.7))


@pytest.mark.parametrize("p", [0.0, 1.0, 0.3])
def test_no_mixed_derivative_of_cross_entropy_is_lost_where_it_is_bounded(p):
    torch = pytest.importorskip("torch")

    def mixed(library, loss):
        given = library.tensor(np.array([p]), requires_grad=True)
        target = library.tensor(np.array([0.4]), requires_grad=True)
        (slope,) = library.autograd.grad(loss(given, target), given, create_graph=True)
        return library.autograd.grad(slope, target)[0].item()

    theirs = mixed(torch, torch.nn.functional.binary_cross_entropy)
    np.testing.assert_allclose(mixed(mg, nn.functional.binary_cross_entropy), theirs, rtol=1e-6)


# --- what an error leaves behind ---

FAILING = {
    "shapes that do not broadcast": lambda: mg.ones(2) + mg.ones(3),
    "shapes that an op refuses": lambda: mg.ones((2, 3)) @ mg.ones((2, 3)),
    "something that is no array": lambda: mg.exp("a"),
    "an axis that is not there": lambda: mg.sum(mg.ones(2), axis=3),
    "a backward pass": lambda: (leaf(1.0, 2.0) * 2).backward(),
    "a rule without a number": lambda: autograd.grad(leaf(1.0) * 2, leaf(1.0)),
}


@pytest.mark.parametrize("name", FAILING)
def test_an_error_is_freed_without_the_garbage_collector(name):
    """One raised from itself would be a cycle, and keep the frames that it passed, and their arrays, alive."""

    def fail():
        with contextlib.suppress(Exception):
            FAILING[name]()
            pytest.fail("no error")

    fail()
    gc.collect()
    gc.disable()
    try:
        fail()
        assert gc.collect() == 0, "objects that only the garbage collector could free"
    finally:
        gc.enable()
