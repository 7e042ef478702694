"""checkpoint: the same numbers from the same random numbers, with the memory gone in between; or an error."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GradientError, checkpoint, nn
from minigrad.autograd.node import recipes
from tests.support.transform_makers import T, close


class Counted:
    """A function that counts its calls."""

    def __init__(self, f):
        self.f, self.calls = f, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.f(*args, **kwargs)


@pytest.fixture
def w():
    return T([0.5, -1, 2], requires_grad=True)


@pytest.fixture
def x():
    return T([[1, 2, 0.3], [-1, 0.5, 0.7]], requires_grad=True)


FUNCTIONS = {
    "elementwise": lambda x, w: mg.sin(mg.exp(x * w)).sum(),
    "matmul": lambda x, w: mg.tanh(x @ mg.outer(w, w)).sum(axis=0) @ w,
    "view": lambda x, w: (x.T.reshape(2, 3)[:, ::2] * w[:2].reshape(2, 1)).sum() ** 2,
    "two uses of a value": lambda x, w: mg.square(y := mg.sigmoid(x * w)).sum() * y.mean(),
    "vmap": lambda x, w: mg.vmap(lambda a: mg.logsumexp(a * w, axis=0))(x).sum(),
    "grad": lambda x, w: (mg.grad(lambda x: mg.tanh(x * w).sum())(x) ** 2).sum(),
    "jacobian": lambda x, w: mg.jacobian(lambda x: mg.sin(x @ w) * x[:, 0])(x).sum() ** 2,
    "fused": lambda x, w: mg.softmax_cross_entropy(x * w, np.array([0, 2])).sum() * mg.exp(w).sum(),
    "checkpoint": lambda x, w: checkpoint(lambda y: mg.sin(checkpoint(mg.exp)(y * w)))(x * x).sum(),
    "checkpoints in turn": lambda x, w: checkpoint(mg.sin)(checkpoint(lambda y: y * w)(checkpoint(mg.exp)(x))).sum(),
    "vmap after grad of checkpoint of vmap": lambda x, w: (
        mg.vmap(lambda a: (a * mg.grad(checkpoint(FUNCTIONS["vmap"]), 1)(x, w)).sum())(
            mg.stack([w, w * w, x[0], x[1], w + 1])
        ).sum()
        * mg.vmap(lambda a: (mg.sin(a) * w).sum())(x).sum()
    ),
    "grad of checkpoint of vmap": lambda x, w: (mg.grad(checkpoint(FUNCTIONS["vmap"]), 1)(x, w * w) ** 3).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_of_any_order_are_those_without(name, x, w):
    f, twice = FUNCTIONS[name], Counted(FUNCTIONS[name])
    g = checkpoint(twice)
    for derive in (
        lambda f: f,
        lambda f: mg.grad(f, (0, 1)),
        lambda f: lambda x, w: mg.jvp(f, (x, w), (x * x, w - 1))[1],
        lambda f: mg.hessian(f, (0, 1)),
        lambda f: mg.jacobian(mg.grad(f, 1), (0, 1), mode="reverse", chunk_size=2),
        lambda f: mg.grad(lambda x, w: mg.grad(lambda x: mg.grad(f)(x, w).sum() ** 2)(x).sum() ** 2, (0, 1)),
        lambda f: lambda x, w: mg.vmap(mg.grad(f, (0, 1)), in_axes=(0, None))(mg.stack([x, 2 * x]), w),
        lambda f: mg.grad(lambda x, w: (mg.vmap(f, in_axes=(None, 0))(x, mg.stack([w, -w])) ** 2).sum(), (0, 1)),
    ):
        before = twice.calls
        close(derive(g)(x, w), derive(f)(x, w), 1e-12, name)
        assert twice.calls in (before + 1, before + 2), "one run forward, and at most one more for all derivatives"
    g(x, w).backward()
    found = x.grad, w.grad
    x.grad = w.grad = None
    f(x, w).backward()
    close(found, (x.grad, w.grad), 1e-12, "by backward()")


def test_arguments_and_results_may_be_trees_and_keywords(x, w):
    def f(pair, *, scale, flag=True):
        y, more = pair["a"] * scale, pair["list"][0]
        return {"out": (y @ more, None), "flag": flag}

    found = checkpoint(f)({"a": x, "list": [w]}, scale=w)
    assert found["flag"] is True and found["out"][1] is None
    close(found["out"][0], (x * w) @ w)
    found["out"][0].sum().backward()
    gradients = x.grad, w.grad
    x.grad = w.grad = None
    ((x * w) @ w).sum().backward()
    close(gradients, (x.grad, w.grad))


def test_a_checkpointed_block_trains_a_model_as_the_block_itself(random):
    def losses(wrap):
        mg.manual_seed(1)
        block = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.MaxPool2d(2)
        )
        head = nn.Linear(16, 3)
        step = mg.optim.SGD([*block.parameters(), *head.parameters()], lr=0.1)
        found = []
        for _ in range(4):
            step.zero_grad()
            loss = nn.functional.cross_entropy(head(wrap(block)(images).reshape(6, -1)), labels)
            loss.backward()
            step.step()
            found.append(loss.item())
        norm = block[1]
        return found, norm.running_mean.numpy(), norm.running_var.numpy(), norm.num_batches_tracked.item()

    images, labels = mg.tensor(random.standard_normal((6, 2, 4, 4)), dtype="f4"), mg.tensor(random.integers(0, 3, 6))
    with_it, without = losses(checkpoint), losses(lambda block: block)
    for found, expected in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert with_it[-1] == 4, "each batch is counted once"


# --- random numbers ---


def test_random_numbers_are_repeated_and_those_outside_not_disturbed(x):
    def f(x):
        return (mg.dropout(x, 0.5) * mg.randn(2, 3) * mg.rand(2, 3)).sum() * mg.randint(1, 9, (1,)).astype("f8")[0]

    def run(wrap):
        mg.manual_seed(3)
        first = mg.rand(2).numpy()
        out = wrap(f)(x)
        between = mg.rand(2).numpy()
        (gradient,) = mg.autograd.grad(out, x)
        return first, out, between, gradient, mg.rand(2).numpy()

    close(run(checkpoint), run(lambda f: f), 1e-15)


def test_dropout_inside_vmap_draws_for_each_example_and_the_same_again():
    x = mg.ones(5, 40, dtype=np.float64)

    def f(x):
        return (mg.dropout(x, 0.5) ** 2).sum()

    def gradients(transform):
        mg.manual_seed(0)
        return transform(x)

    plain = gradients(mg.vmap(mg.grad(f)))
    assert len({tuple(row) for row in plain.numpy()}) == 5, "masks differ between the examples"
    close(gradients(mg.vmap(mg.grad(checkpoint(f)))), plain)
    close(gradients(mg.grad(lambda x: mg.vmap(checkpoint(f))(x).sum())), plain)
    close(gradients(mg.grad(checkpoint(lambda x: mg.vmap(f)(x).sum()))), plain)


# --- memory ---


def test_what_a_function_computes_is_gone_between_forward_and_backward(x):
    arrays = {}

    def f(x):
        y = mg.exp(x)
        z = mg.sin(y)
        arrays["y"], arrays["z"] = weakref.ref(y.data), weakref.ref(z.data)
        return (z * z).sum()

    gc.collect()
    gc.disable()
    try:
        plain = f(x)
        assert arrays["y"]() is not None and arrays["z"]() is not None, "without checkpoint they are kept"
        out = checkpoint(f)(x)
        assert arrays["y"]() is None and arrays["z"]() is None
        out.backward()
        assert arrays["y"]() is None and arrays["z"]() is None, "nor are they kept after it"
        del plain, out
        assert not len(recipes)
    finally:
        gc.enable()


def test_a_checkpoint_inside_keeps_nothing_for_itself(x):
    arrays = {}

    def inner(y):
        z = mg.exp(y)
        arrays["inside"] = weakref.ref(z.data)
        return mg.sin(z)

    def outer(x):
        y = x * x
        arrays["argument"] = weakref.ref(y.data)
        return checkpoint(inner)(y).sum()

    out = checkpoint(outer)(x)
    assert arrays["inside"]() is None and arrays["argument"]() is None
    out.backward()
    close(x.grad, (mg.cos(mg.exp(x * x)) * mg.exp(x * x) * 2 * x).detach())


def chain(x, length):
    for _ in range(length):
        x = mg.sin(x)
    return x


def segments(x, length):
    for _ in range(length // 12):
        x = checkpoint(lambda x: chain(x, 12))(x)
    return x


def halves(x, length):
    if length <= 6:
        return chain(x, length)
    half = checkpoint(lambda x: halves(x, length // 2))
    return half(half(x))


def peak_of_going_backward(f, length):
    """The largest memory of a forward and a backward pass, in arrays, and the gradient."""
    x = T(np.linspace(-1, 1, 1 << 13), requires_grad=True)
    tracemalloc.start()
    try:
        f(x, length).sum().backward()
        return tracemalloc.get_traced_memory()[1] / x.data.nbytes, x.grad
    finally:
        tracemalloc.stop()


def test_a_deep_chain_needs_the_square_root_of_its_memory_and_in_halves_its_logarithm():
    length = 96
    whole, gradient = peak_of_going_backward(chain, length)
    assert whole > length, "all is kept"
    by_segments, same = peak_of_going_backward(segments, length)
    close(same, gradient)
    assert by_segments < 8 + 12 + 8, "8 arguments, one segment of 12, and some at work"
    by_halves, same = peak_of_going_backward(halves, length)
    close(same, gradient)
    assert by_halves < 2 * 4 + 6 + 6, "two arguments a level for 4 levels, a chain of 6, and some at work"


# --- runs ---


def test_a_function_runs_once_forward_and_once_more_for_all_that_follows(x):
    f = Counted(lambda x: mg.exp(mg.sin(x)).sum())
    out = checkpoint(f)(x)
    assert f.calls == 1
    out.backward(retain_graph=True)
    out.backward(retain_graph=True)
    mg.push(out, x, x)
    out.backward()
    assert f.calls == 2
    with pytest.raises(GradientError, match="freed by an earlier backward pass"):
        out.backward()
    assert f.calls == 2, "used up, as without checkpoint"


def test_without_a_need_for_gradients_a_function_is_simply_called(x):
    f = Counted(lambda x: mg.exp(x).sum())
    with mg.no_grad():
        assert not checkpoint(f)(x).requires_grad
    assert not checkpoint(f)(x.detach()).requires_grad
    close(checkpoint(lambda x: (f(x), 3, None))(x.detach())[0], mg.exp(x).sum())
    assert f.calls == 3 and not len(recipes)


def test_a_backward_pass_that_needs_nothing_of_it_does_not_run_it_again(x):
    f = Counted(lambda x: -(x + 1))
    checkpoint(f)(x).sum().backward()
    assert f.calls == 1, "neither + nor - keeps anything"
    close(x.grad, np.full((2, 3), -1.0))


def test_a_function_can_ask_whether_it_is_being_run_again(x):
    asked = []

    def f(x):
        asked.append(mg.transforms.is_recomputing())
        checkpoint(lambda x: asked.append(mg.transforms.is_recomputing()) or mg.exp(x))(x)
        return mg.exp(x).sum()

    checkpoint(f)(x).backward()
    assert asked == [False, False, True, True] and not mg.transforms.is_recomputing()


def test_the_backward_pass_may_run_in_another_thread(x, w):
    out = checkpoint(FUNCTIONS["vmap"])(x, w)
    thread = threading.Thread(target=out.backward)
    thread.start()
    thread.join()
    close(x.grad, mg.grad(FUNCTIONS["vmap"])(x.detach(), w.detach()))


def test_gradients_of_outer_tensors_inside_vmap_are_each_examples_in_the_second_run_too(w):
    xs = T([[1, 2, 3], [4, 5, 6]])

    def f(x):
        (g,) = mg.autograd.grad((w**2 * x).sum(), w, create_graph=True)
        return (g**2).sum()

    mg.vmap(checkpoint(f))(xs).sum().backward()
    close(w.grad, (8 * w * (xs**2).sum(axis=0)).detach())


# --- errors ---


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (mg.sin, mg.cos, "recorded cos .* as op number 1 .* first run had sin"),
        (lambda y: y.sum(axis=0), lambda y: y.sum(axis=1), r"recorded sum \(2,\).*had sum \(3,\)"),
        (lambda y: y[:1], lambda y: y[:2], r"getitem \(2, 3\).*getitem \(1, 3\)"),
        (lambda y: mg.sin(y) * 2.0, mg.sin, "recorded sum .* first run had multiply"),
        (lambda y: y, mg.sin, "recorded sin .* had sum"),
        (lambda y: y, lambda y: y.detach() * 1.0, "recorded no more as op number 0"),
        (lambda y: y.astype("f4"), lambda y: y.astype("f2"), "float16.*float32"),
    ],
)
def test_a_second_run_that_differs_from_the_first_is_refused(x, first, second, words):
    runs = iter([first, second])

    def unsteady(x):
        return next(runs)(mg.exp(x)).sum()

    out = checkpoint(unsteady)(x)
    with pytest.raises(GradientError, match=f"checkpoint of 'unsteady': run again.*{words}.*same each time"):
        out.backward()
    assert x.grad is None and not mg.transforms.is_recomputing()


def test_a_weight_frozen_or_changed_between_the_runs_is_refused(x, w):
    out = checkpoint(lambda x: (x * w).sum())(x)
    w.requires_grad_(False)
    with pytest.raises(GradientError, match=r"arguments 0\) as op number 0 .* arguments 0, 1\)"):
        out.backward()
    w.requires_grad_()
    for f in (lambda w: mg.exp(w + 1), lambda w: mg.exp(w.reshape(3, 1)), lambda w: mg.exp(checkpoint(mg.sin)(w))):
        out = checkpoint(lambda w, f=f: f(w).sum())(w)
        w.copy_(w.detach() * 2)
        with pytest.raises(GradientError, match=r"\(3,\) was changed in place .* before the backward pass"):
            out.backward()
    view = w.reshape(3, 1)
    out = checkpoint(lambda v: mg.exp(v + 1).sum())(view)
    w.copy_(w.detach() * 2)
    with pytest.raises(GradientError, match="changed in place"):
        out.backward()
    checkpoint(lambda w: mg.exp(w + 1).sum())(w).backward()
    w.copy_(w.detach() * 2)
    close(w.grad, mg.exp(w / 2 + 1).detach(), what="a change after the backward pass is fine")


def test_an_argument_given_other_values_between_the_runs_counts_as_it_was(x):
    batch = T([[1, 2, 3], [4, 5, 6]])
    out = checkpoint(lambda x, b: mg.exp(x * b).sum())(x, batch)
    batch.copy_(T(np.zeros((2, 3))))
    out.backward()
    b = np.arange(1.0, 7).reshape(2, 3)
    close(x.grad, b * np.exp(x.detach().numpy() * b))


def test_an_error_in_the_function_comes_through_and_leaves_all_as_it_was(x):
    runs = []

    def fails_in_run(number):
        def f(x):
            runs.append(mg.rand(3))
            y = mg.exp(x)
            if len(runs) == number:
                raise KeyError("mine")
            return y.sum()

        return f

    with pytest.raises(KeyError, match="mine"):
        checkpoint(fails_in_run(1))(x)
    runs.clear()
    mg.manual_seed(0)
    out = checkpoint(fails_in_run(2))(x)
    after = mg.rand(2).numpy()
    with pytest.raises(KeyError, match="mine"):
        out.backward()
    np.testing.assert_array_equal(runs[0].numpy(), runs[1].numpy())
    assert not mg.transforms.is_recomputing() and mg.is_grad_enabled()
    mg.manual_seed(0)
    np.testing.assert_array_equal(mg.rand(5).numpy()[3:], after)
    out.backward()
    close(x.grad, mg.exp(x).detach(), what="and the next try succeeds")


# --- stacks of transforms made at random ---

C = T([0.3, -0.7, 0.5])

# By name: what makes a function of a vector from a function of a vector (numbers both), and the same with neither vmap
# nor checkpoint: loops in their places.
LAYERS = {
    "checkpoint": (checkpoint, lambda f: f),
    "grad": (lambda f: lambda x: (mg.grad(f)(x) * C).sum(), None),
    "jvp": (lambda f: lambda x: mg.jvp(f, (x,), (mg.sin(x),))[1], None),
    "vmap": (
        lambda f: lambda x: mg.vmap(f)(mg.stack([x, C * x])).sum(),
        lambda f: lambda x: f(x) + f(C * x),
    ),
    "vmap over a closure": (
        lambda f: lambda x: (mg.vmap(lambda a: f(a * x + C))(C) ** 2).sum(),
        lambda f: lambda x: sum(f(a * x + C) ** 2 for a in C.tolist()),
    ),
    "vmap of grad": (
        lambda f: lambda x: (mg.vmap(mg.grad(f))(mg.outer(C, x)) * C).sum(),
        lambda f: lambda x: sum((mg.grad(f)(a * x) * C).sum() for a in C.tolist()),
    ),
    "checkpoint of vmap": (
        lambda f: checkpoint(lambda x: mg.vmap(lambda a, b: f(a * b), in_axes=(None, 0))(x, mg.outer(C, C)).sum()),
        lambda f: lambda x: sum(f(x * (a * C)) for a in C.tolist()),
    ),
    "vmap of checkpoint": (
        lambda f: lambda x: mg.vmap(checkpoint(lambda a: f(a * x)))(C).sum(),
        lambda f: lambda x: sum(f(a * x) for a in C.tolist()),
    ),
    "jacobian": (
        lambda f: lambda x: C @ mg.jacobian(lambda x: mg.sin(f(x) * x), mode="reverse", chunk_size=2)(x) @ C,
        lambda f: lambda x: mg.jvp(lambda x: (mg.sin(f(x) * x) * C).sum(), (x,), (C,))[1],
    ),
}


@settings(max_examples=settings.default.max_examples // 2)
@given(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=4))
def test_checkpoint_and_vmap_nest_with_all_others_in_every_order(names):
    w = T([1.1, 0.4, -0.6], requires_grad=True)

    def base(x):
        return mg.tanh((x * w).sum() + x[0] * x[1])

    f, loops = base, base
    for name in names:
        layer, plain = LAYERS[name]
        f, loops = layer(f), (plain or layer)(loops)
    x = T([0.2, 0.9, -0.4])
    close(f(x), loops(x), 1e-9, f"{names}: value")
    close(mg.grad(f)(x), mg.grad(loops)(x), 1e-9, f"{names}: gradient")
    f(x).backward()
    found, w.grad = w.grad, None
    loops(x).backward()
    close(found, w.grad, 1e-9, f"{names}: gradient by what it closes over")
