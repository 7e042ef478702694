"""Saved values: after a write to one, or after they were freed, a gradient is right or refused, never wrong.

Three claims are held over every op in the tables: a second backward pass is refused or right; so is one after an
argument, and one after the result, was overwritten.
"""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GradientError, autograd, nn, optim
from tests.support.makers import leaf
from tests.support.op_cases import CASES, SUBJECTS, every_differentiable_case

# --- every op: the right number, or an error ---

few = settings(max_examples=max(settings.default.max_examples // 6, 2))


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


# --- changes in place ---


def test_a_leaf_changed_between_forward_and_backward_is_an_error_that_names_the_op():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.name = "weight"
    y = (x * w).sum()
    w.copy_([5.0, 6.0])
    with pytest.raises(GradientError, match=r"multiply.*weight.*changed in place"):
        y.backward()
    with pytest.raises(GradientError, match=r"changed in place"):
        mg.push(y, x, np.ones(2))


def test_a_change_of_what_backward_does_not_need_is_fine():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (x + w).sum()
    w.copy_([5.0, 6.0])
    y.backward()
    z = (x * w).sum()
    z.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 7])


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x.reshape(4),
        lambda x: x[0],
        lambda x: x.reshape(4).T[1:],
        lambda x: mg.flip(x[None].swapaxes(0, 1), axis=0),
        lambda x: mg.einsum("ij->ji", x),
        lambda x: x.broadcast_to(3, 2, 2),
    ],
)
def test_a_change_is_seen_through_views_of_the_leaf(view):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    part = view(x)
    y = (part * part).sum()
    x.copy_(np.zeros((2, 2)))
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


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


# --- arrays of the caller's ---

ARRAY_OPERANDS = {
    "a product": lambda x, a: x * a,
    "a product, the array first": lambda x, a: a * x,
    "a quotient": lambda x, a: x / a,
    "a power": lambda x, a: a**x,
    "matmul": lambda x, a: x @ a,
    "einsum": lambda x, a: mg.einsum("i,i->", x, a),
    "where": lambda x, a: mg.where(a > 2, x, a) * mg.where((a > 2) & True, x * 0 + 2, 1.0),
    "index": lambda x, a: x[a.astype(int) - 2] ** 2,
    "linear": lambda x, a: mg.nn.functional.linear(x, a.reshape(1, 2)),
    "concatenate": lambda x, a: mg.concatenate([x, a]) ** 2,
    "maximum": lambda x, a: mg.maximum(x, a),
}


@pytest.mark.parametrize("name", ARRAY_OPERANDS)
def test_an_array_that_is_written_to_after_the_forward_pass_changes_no_gradient(name):
    """As numpy arrays come and go in a loop: the graph has copies of what it needs."""

    def gradients(write):
        x, a = leaf(1.5, 2.5), np.array([2.0, 3.0])
        mask = a > 2
        index = np.array([1, 1])
        y = ARRAY_OPERANDS[name](x, a).sum() + mg.where(mask, x, 0.0).sum() + (x[index] * x[index]).sum()
        y = y + mg.take(x, index).sum() + mg.index_update(x, (index[:1],), 1.0).sum()
        if write:
            a[:], mask[:], index[:] = 10, False, 0
        (first,) = autograd.grad(y, x, create_graph=True)
        return first.tolist(), mg.push(y, x, np.ones(2))[0].item()

    gradients(True)
    gc.collect()
    gc.disable()
    try:
        assert gradients(True) == gradients(False)
        assert gc.collect() == 0, "a cycle"
    finally:
        gc.enable()
