"""vmap of functions: axes in every form, errors, derivatives nested in it and around it, networks, losses."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, Tensor, nn
from minigrad.autograd.levels import give_to_all, levels_of, sum_examples
from minigrad.transforms.trees import flatten
from tests.support.transform_makers import agree

# --- axes ---


def test_axes_of_arguments_and_results_in_every_form(random):
    x = Tensor(random.standard_normal((4, 3, 2)))
    y = Tensor(random.standard_normal((2, 3)))

    def f(a, b):
        return a @ b, {"sum": (a * a).sum(axis=0), "none": None}, 7

    for axis in range(-3, 3):
        for out in range(-2, 2):
            found = mg.vmap(lambda a: mg.square(a), in_axes=axis, out_axes=out)(x)
            rows = np.square(np.moveaxis(x.numpy(), axis, 0))
            np.testing.assert_array_equal(found.numpy(), np.moveaxis(rows, 0, out % 3 if out >= 0 else out))
    for in_axes in ((2, 0), [2, 0], (-1, -2)):
        a, more, seven = mg.vmap(f, in_axes=in_axes, out_axes=(-1, {"sum": 1, "none": 0}, None))(x, y)
        np.testing.assert_allclose(a.numpy(), np.stack([x.numpy()[:, :, i] @ y.numpy()[i] for i in range(2)], -1))
        np.testing.assert_allclose(more["sum"].numpy(), (x.numpy() ** 2).sum(axis=0))
        assert more["none"] is None and seven.item() == 7 and more["sum"].shape == (3, 2)
    trees = mg.vmap(
        lambda p, q, k: p["w"] @ q[0] + p["b"] * k, in_axes=({"w": 2, "b": None}, (0, None), None), out_axes=1
    )({"b": Tensor(np.ones(4)), "w": x}, (y, "as it is"), 2)
    np.testing.assert_allclose(trees.numpy(), a.numpy() + 2)
    keywords = mg.vmap(lambda a, *, b, none=None: a + b["c"], in_axes=1)(y, b={"c": Tensor(np.arange(3.0))}, none=None)
    np.testing.assert_allclose(keywords.numpy(), y.numpy().T + np.arange(3.0)[:, None])
    assert mg.vmap(lambda a: (a, 2.0), out_axes=(0, None))(y)[1].item() == 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda x: mg.vmap(mg.sin, in_axes=2)(x),
            ShapeError,
            r"in_axes 2 .* \(3, 4\).*no such axis.*functools.partial",
        ),
        (lambda x: mg.vmap(mg.sin, out_axes=-3)(x), ShapeError, r"out_axes -3 .* \(4,\); expected -2 to 1"),
        (lambda x: mg.vmap(mg.add)(x, x.T), ShapeError, "arguments hold 3, 4 examples; they must agree"),
        (lambda x: mg.vmap(mg.add, in_axes=(0,))(x, x), ValueError, r"in_axes has 1 entries for 2 values"),
        (lambda x: mg.vmap(mg.sin, in_axes=None)(x), ValueError, "None, so there are no examples"),
        (lambda x: mg.vmap(lambda: x)(), ValueError, "no examples"),
        (lambda x: mg.vmap(mg.sin, in_axes="0")(x), TypeError, "in_axes holds '0'; expected integers, None"),
        (lambda x: mg.vmap(mg.sin, out_axes=0.0)(x), TypeError, "out_axes holds 0.0"),
        (lambda x: mg.vmap(mg.sin, out_axes=None)(x), ValueError, r"None for a result of shape \(4,\) that differs"),
        (lambda x: mg.vmap(mg.sin, out_axes=(0, 0))(x), ValueError, "out_axes .* deeper"),
        (lambda x: mg.vmap(mg.sin)(3.0), ShapeError, r"argument of shape \(\)"),
        (lambda x: mg.vmap(lambda x: x if x.sum() > 0 else -x)(x), TypeError, r"3 examples at once.*minigrad\.where"),
        (lambda x: mg.vmap(lambda x: x.sum().item())(x), TypeError, "cannot become one Python number"),
        (lambda x: mg.vmap(lambda x: float(x[0]))(x), TypeError, "look at it outside"),
        (lambda x: mg.vmap(lambda x: x.numpy())(x), TypeError, "NumPy array"),
        (lambda x: mg.vmap(lambda x: x[x > 0])(x), TypeError, r"mask that differs.*different sizes.*minigrad\.where"),
        (lambda x: mg.vmap(lambda x: [1, 2][x[0].astype("int64")])(x), TypeError, "one Python number"),
    ],
)
def test_what_vmap_cannot_do_it_says(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(np.arange(12.0).reshape(3, 4)))


def test_a_value_kept_from_inside_says_that_it_came_from_there():
    kept = []
    mg.vmap(lambda x: kept.append(x) or x)(mg.ones(3, 2))
    for use in (lambda x: x.numpy(), lambda x: x.sum().item(), lambda x: bool(x[0])):
        with pytest.raises(TypeError, match=r"kept from inside a vmap that has ended.*return it instead"):
            use(kept[0])


def test_backward_inside_stays_inside():
    w, xs = mg.ones(3, dtype=np.float64, requires_grad=True), Tensor(np.arange(6.0).reshape(2, 3))
    with pytest.raises(GradientError, match=r"tensor from outside\. Take gradients with minigrad.grad"):
        mg.vmap(lambda x: (w * x).sum().backward() or x)(xs)
    assert w.grad is None

    def inside(x):
        leaf = x.detach().requires_grad_()
        (leaf**3).sum().backward()
        return leaf.grad

    np.testing.assert_allclose(mg.vmap(inside)(xs).numpy(), 3 * xs.numpy() ** 2)
    each = mg.vmap(lambda x: mg.autograd.grad((w * x).sum(), w)[0])(xs)
    np.testing.assert_allclose(each.numpy(), xs.numpy(), err_msg="of an outer tensor each example has its own")


@pytest.mark.parametrize(
    "f",
    [
        lambda x: mg.sin(x).sum(axis=0),
        lambda x: mg.conv2d(x, mg.ones(3, 2, 3, 3, dtype=np.float64), padding=1).sum(),
        lambda x: mg.conv2d(mg.ones(1, 2, 5, 5, dtype=np.float64), x[:, :, :3, :3]),
        lambda x: mg.max_pool2d(x, 2) + mg.avg_pool2d(x, 2),
        lambda x: mg.batch_norm(x),
        lambda x: x.reshape(-1)[np.array([1, 0])] @ mg.ones(2, 3, dtype=np.float64),
    ],
)
def test_no_examples_give_no_results_of_the_right_shape(f):
    one, none = Tensor(np.arange(64.0).reshape(2, 2, 4, 4) ** 2), mg.zeros(0, 2, 2, 4, 4, dtype=np.float64)
    assert mg.vmap(f)(none).shape == (0, *f(one).shape)
    assert mg.vmap(mg.grad(lambda x: (f(x) ** 2).sum()))(none).shape == none.shape
    assert mg.grad(lambda xs: mg.vmap(f)(xs).sum())(none).shape == none.shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dtypes_stay_as_they_are(dtype):
    xs = Tensor(np.arange(12, dtype=dtype).reshape(2, 6) / 10)

    def f(x):
        y = mg.softmax(2.0 * x, axis=0) + mg.dropout(x, 0.5) * np.pi
        y = mg.conv2d(y.reshape(1, 1, 2, 3), Tensor(np.ones((1, 1, 2, 2), dtype)), padding=1)
        return nn.functional.cross_entropy(y.reshape(1, -1), np.array([3]))

    assert mg.vmap(f)(xs).dtype == dtype
    assert mg.vmap(mg.grad(f))(xs).dtype == dtype
    assert mg.vmap(mg.hessian(f))(xs).dtype == dtype
    assert mg.grad(lambda xs: mg.vmap(f)(xs).sum())(xs).dtype == dtype


# --- derivatives of many examples ---


def layered(a, b, c):
    """A number that joins three vectors without symmetry."""
    return (mg.sin(a * b[0]) * mg.exp(0.2 * c)).sum() * mg.tanh(b @ c) + (a**3).sum()


@pytest.mark.parametrize(
    "derive",
    [
        lambda f: f,
        lambda f: mg.grad(f, (0, 1, 2)),
        lambda f: mg.hessian(f, (0, 2)),
        lambda f: mg.jacobian(mg.grad(f, 1), 2, mode="reverse", chunk_size=1),
        lambda f: lambda a, b, c: mg.jvp(f, (a, b, c), (b, c, a)),
        lambda f: lambda a, b, c: mg.vjp(lambda a, b: f(a, b, c) * a, a, b)[1](c),
        lambda f: lambda a, b, c: mg.hvp(lambda b: f(a, b, c), b, c),
        lambda f: lambda a, b, c: mg.ggn_vp(lambda b: f(a, b, c) * b, b, c, lambda y: (y**4).sum()),
        lambda f: mg.grad(mg.checkpoint(lambda a, b, c: mg.grad(f)(a, b, c).sum() ** 2), (0, 1, 2)),
    ],
)
def test_three_vmaps_of_a_derivative_are_three_loops(derive, random):
    a, b, c = (random.standard_normal((n, 3)) for n in (2, 4, 3))
    f = derive(layered)
    one = mg.vmap(f, in_axes=(None, None, 0))
    two = mg.vmap(one, in_axes=(None, 0, None), out_axes=1)
    three = mg.vmap(two, in_axes=(0, None, None), out_axes=-1 if derive(layered) is layered else 0)
    found, _ = flatten(three(Tensor(a), Tensor(b), Tensor(c)))
    loops = [[[flatten(f(Tensor(x), Tensor(y), Tensor(z)))[0] for y in b] for z in c] for x in a]
    for k, y in enumerate(found):
        expected = np.array([[[np.asarray(leaves[k].numpy()) for leaves in ys] for ys in zs] for zs in loops])
        expected = np.moveaxis(expected, 0, -1) if derive(layered) is layered else expected
        agree(y.numpy(), expected, f"result {k}")


@pytest.mark.parametrize("order", range(1, 6))
@pytest.mark.parametrize("name", ["inside", "outside", "both", "jacobian"])
def test_derivatives_of_every_order_flow_out_of_a_vmap(name, order, random):
    """What all examples share gets the sum of their gradients, and so does the gradient of that gradient."""
    cs = Tensor(random.standard_normal(3))

    def f(x, over):
        t = mg.tanh(x)
        if name == "inside":
            return over(lambda c: mg.sin(c * mg.tanh(x)) + x, cs)
        if name == "outside":
            return over(lambda c: c * (1 - t * t), cs) * t
        if name == "both":
            return over(lambda c: mg.sin(c * t) * (c + t) ** 2 + t, cs) * over(lambda c: mg.exp(c * t * t), cs)
        return over(lambda c: mg.vjp(mg.tanh, x)[1](c)[0] * mg.jvp(mg.sin, (x,), (t,))[1], cs)

    def vmapped(x):
        return f(x, lambda g, cs: mg.vmap(g)(cs).sum())

    def looped(x):
        return f(x, lambda g, cs: sum(g(c) for c in cs))

    x = Tensor(np.float64(0.7))
    for forward in range(2 ** min(order, 3)):  # which of the first derivatives are taken in forward mode
        found, expected = vmapped, looped
        for k in range(order):
            if forward >> k & 1:
                step = lambda g: lambda x: mg.jvp(g, (x,), (Tensor(np.float64(1)),))[1]  # noqa: E731
            else:
                step = mg.grad
            found, expected = step(found), step(expected)
        agree(found(x).numpy(), expected(x).numpy(), f"forward {forward:b}")


def test_linear_maps_through_a_vmap_can_be_differentiated_by_vectors_made_later(random):
    """The vector is younger than the vmap; what tells a shared value from an example's is the value, not its age."""
    cs, x, u, v = (Tensor(random.standard_normal(3)) for _ in range(4))

    def f(x, over):
        return over(lambda c: (mg.sin(c * mg.tanh(x)) * x).sum(), cs) * x

    vmapped = lambda x: f(x, lambda g, cs: mg.vmap(g)(cs))  # noqa: E731
    looped = lambda x: f(x, lambda g, cs: mg.stack([g(c) for c in cs]))  # noqa: E731

    def slope(f):
        return mg.grad(lambda x: f(x).sum())

    def pull_of(f):
        pull = mg.vjp(f, x)[1]
        return lambda v: pull(v)[0]

    linear = {
        "push": lambda f: mg.linearize(f, x)[1],
        "pull": pull_of,
        "push of the gradient": lambda f: mg.linearize(slope(f), x)[1],
        "pull of the gradient": lambda f: pull_of(slope(f)),
    }
    for name, make in linear.items():
        found, expected = make(vmapped), make(looped)
        for times in (1, 2, 3):

            def value(v, linear, times=times):
                for _ in range(times):
                    v = linear(v)
                return (mg.sin(v) * u).sum()

            agree(mg.grad(value)(v, found).numpy(), mg.grad(value)(v, expected).numpy(), f"{name}, {times} times")
            leaf = v.detach().requires_grad_()
            value(leaf, make(vmapped)).backward()
            agree(leaf.grad.numpy(), mg.grad(value)(v, expected).numpy(), f"{name}, {times} times, backward")


@pytest.mark.parametrize(
    "f",
    [
        lambda w, c: w[0] + (w * c).sum(),  # on the way back the reads come last,
        lambda w, c: (w * w * c).sum() + w[0] * w[1:].sum(),  # first,
        lambda w, c: w[0] + (w * w * c).sum() * w[1] + w[(c > 0).astype("int64")].sum(),  # and around the others
    ],
)
def test_reads_of_a_value_that_all_share_beside_uses_that_differ(f, random):
    w, cs = Tensor(random.standard_normal(3)), Tensor(random.standard_normal((4, 3)))
    each = mg.vmap(mg.grad(f), in_axes=(None, 0))(w, cs)
    agree(each.numpy(), np.stack([mg.grad(f)(w, c).numpy() for c in cs]), "gradient")


@pytest.mark.parametrize("differs", [True, False])
def test_the_ops_at_the_border_of_a_vmap_are_each_others_adjoint(differs, random):
    """<sum_examples(x), y> = <x, give_to_all(y)>, be x the same for all examples or not; and their sums are sums."""
    xs, y = Tensor(random.standard_normal((4, 3) if differs else 3)), Tensor(random.standard_normal(3))
    inner = []

    def f(x, _):
        level = next(levels_of(_))
        total = sum_examples(x, level=level)
        spread = give_to_all(y, level=level)
        again = sum_examples(spread, level=level)
        push = mg.jvp(lambda x: sum_examples(x, level=level), (x,), (x,))[1]
        inner.append((total * y).sum())
        return total, push, again, (x * spread).sum(), mg.vjp(lambda y: give_to_all(y, level=level), y)[1](x)[0]

    axes = (0 if differs else None, 0)
    total, push, again, products, pulled = mg.vmap(f, in_axes=axes, out_axes=(None, None, None, 0, None))(
        xs, mg.ones(4)
    )
    expected = xs.numpy().sum(axis=0) if differs else 4 * xs.numpy()
    for found in (total, push, pulled):
        agree(found.numpy(), expected, "the sum of all examples")
    agree(again.numpy(), 4 * y.numpy(), "the sum of what is the same for all")
    agree(products.numpy().sum(), inner[0].numpy(), "adjoint")

    def shifted(t):
        plus = lambda x, k: sum_examples(x * k + t, level=next(levels_of(k)))  # noqa: E731
        return (mg.vmap(plus, in_axes=axes, out_axes=None)(xs, mg.ones(4)) * y).sum()

    agree(mg.grad(shifted)(y).numpy(), 4 * y.numpy(), "each example passes the gradient of the sum on")


def test_a_jacobian_of_a_vmap_and_a_gradient_of_a_vmap_of_gradients(random):
    w, xs = Tensor(random.standard_normal((3, 4))), Tensor(random.standard_normal((5, 4)))

    def loss(w, x):
        return (mg.tanh(w @ x) ** 2).sum()

    rows = mg.stack([mg.grad(loss)(w, x) for x in xs])
    for mode in ("forward", "reverse"):
        agree(mg.jacobian(mg.vmap(loss, in_axes=(None, 0)), mode=mode)(w, xs).numpy(), rows.numpy(), mode)

    def norms(gradients):
        return lambda w: (gradients(w) ** 2).sum(axis=(1, 2)).max()

    found = mg.grad(norms(lambda w: mg.vmap(mg.grad(loss), in_axes=(None, 0))(w, xs)))(w)
    agree(found.numpy(), mg.grad(norms(lambda w: mg.stack([mg.grad(loss)(w, x) for x in xs])))(w).numpy(), "of norms")


# --- networks ---


class SmallNet(nn.Module):
    """Every kind of layer that a small convolutional network has, with an embedding beside it."""

    def __init__(self, stride=1, padding=0, groups=1):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=stride, padding=padding)
        self.second = nn.Conv2d(4, 4, 2, padding=1, groups=groups)
        self.norm = nn.BatchNorm2d(4)
        self.table = nn.Parameter(np.linspace(-1, 1, 20).reshape(5, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x, words):
        y = mg.max_pool2d(mg.tanh(self.first(x)), 2)
        y = mg.avg_pool2d(self.norm(self.second(y)), 2, padding=1)
        return self.head(y.mean(axis=(2, 3)) + mg.embedding(words, self.table).sum(axis=1))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 2, "groups": 2}, {"padding": 1, "groups": 4}])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_for_each_example_of_a_network_are_those_of_a_loop(options, recompute, random):
    mg.manual_seed(0)
    net = SmallNet(**options).double().eval()
    images, words = Tensor(random.standard_normal((4, 2, 9, 9))), Tensor(random.integers(0, 5, (4, 6)))
    labels = Tensor(random.integers(0, 3, 4))
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(parameters, x, w, y):
        return nn.functional.cross_entropy(nn.functional_call(net, parameters, (x[None], w[None])), y[None])

    f = mg.checkpoint(loss) if recompute else loss
    each = mg.vmap(mg.grad(f), in_axes=(None, 0, 0, 0))(parameters, images, words, labels)
    total = mg.grad(lambda p: mg.vmap(f, in_axes=(None, 0, 0, 0))(p, images, words, labels).sum())(parameters)
    for i in range(4):
        net.zero_grad()
        nn.functional.cross_entropy(net(images[i : i + 1], words[i : i + 1]), labels[i : i + 1]).backward()
        for name, p in net.named_parameters():
            if p.grad is not None:
                agree(each[name].numpy()[i], p.grad.numpy(), f"{name} of example {i}")
    net.zero_grad()
    nn.functional.cross_entropy(net(images, words), labels, reduction="sum").backward()
    for name, p in net.named_parameters():
        agree(total[name].numpy(), p.grad.numpy() if p.grad is not None else 0 * p.numpy(), f"{name} of all")
    ensemble = {name: mg.stack([p, 0.5 * p]) for name, p in parameters.items()}
    of_a_model = mg.vmap(mg.grad(f), in_axes=(None, 0, 0, 0))
    models = mg.vmap(of_a_model, in_axes=(0, None, None, None))(ensemble, images, words, labels)
    half = of_a_model({n: 0.5 * p for n, p in parameters.items()}, images, words, labels)
    for name in parameters:
        agree(models[name].numpy(), np.stack([each[name].numpy(), half[name].numpy()]), f"{name} of two models")


def losses():
    """(a loss, its options, what its targets are)."""
    F = nn.functional
    weight = np.array([1.0, 2, 0.5, 3])
    for reduction in ("mean", "sum", "none"):
        yield F.cross_entropy, {"reduction": reduction}, "labels"
        yield F.cross_entropy, {"reduction": reduction, "weight": weight, "label_smoothing": 0.2}, "labels"
        yield F.cross_entropy, {"reduction": reduction, "ignore_index": 2}, "labels"
        yield F.nll_loss, {"reduction": reduction, "weight": weight}, "labels"
    yield F.cross_entropy, {}, "probabilities"
    yield F.multi_margin_loss, {}, "labels"
    yield F.binary_cross_entropy, {}, "numbers"
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits):
        yield loss, {}, "numbers"


@pytest.mark.parametrize(("loss", "options", "kind"), list(losses()))
def test_losses_of_many_examples_are_those_of_each(loss, options, kind, random):
    xs = Tensor(random.uniform(0.1, 0.9, (3, 5, 4)))
    ys = {
        "labels": random.integers(0, 4, (3, 5)),
        "probabilities": random.dirichlet(np.ones(4), (3, 5)),
        "numbers": random.uniform(0, 1, (3, 5, 4)),
    }[kind]
    number = lambda x, y: loss(x, y, **options).sum()  # noqa: E731
    for x_axis, y_axis in ((0, 0), (None, 0), (0, None)):
        x, y = (xs if x_axis == 0 else xs[1]), Tensor(np.asarray(ys if y_axis == 0 else ys[1]))
        for f in (lambda x, y: loss(x, y, **options), mg.grad(number), mg.hessian(number)):
            rows = [(i if x_axis == 0 else 1, i if y_axis == 0 else 1) for i in range(3)]
            one_by_one = [f(xs[i], Tensor(np.asarray(ys[j]))) for i, j in rows]
            found = mg.vmap(f, in_axes=(x_axis, y_axis))(x, y)
            agree(found.numpy(), np.stack([row.numpy() for row in one_by_one]), "loss, gradient or Hessian", 1e-8)


def test_running_statistics_are_not_moved_by_single_examples(random):
    norm, images = nn.BatchNorm2d(2).double(), Tensor(random.standard_normal((3, 4, 2, 5, 5)))
    with pytest.raises(ValueError, match=r"each example would move the running statistics.*eval\(\)"):
        mg.vmap(norm)(images)
    np.testing.assert_array_equal(norm.running_var.numpy(), [1, 1])
    without = nn.BatchNorm2d(2, track_running_stats=False).double()
    agree(mg.vmap(without)(images).numpy(), np.stack([without(x).numpy() for x in images]), "statistics of each batch")


def test_a_mean_over_nothing_is_refused_if_one_example_is_such(random):
    scores, labels = Tensor(random.standard_normal((3, 5, 4))), random.integers(0, 4, (3, 5))
    labels[1] = -100
    with pytest.raises(ValueError, match="nothing to average"):
        mg.vmap(nn.functional.cross_entropy)(scores, Tensor(labels))
    sums = mg.vmap(lambda x, y: nn.functional.cross_entropy(x, y, reduction="sum"))(scores, Tensor(labels))
    assert sums[1].item() == 0 and sums[0].item() > 0


def test_labels_of_every_example_are_checked(random):
    scores, labels = Tensor(random.standard_normal((3, 5, 4))), random.integers(0, 4, (3, 5))
    labels[2, 1] = 7
    for f in (nn.functional.cross_entropy, mg.softmax_cross_entropy):
        with pytest.raises(IndexError, match=r"(label|index) 7 "):
            mg.vmap(f)(scores, Tensor(labels))
    with pytest.raises(IndexError, match="index 7"):
        mg.vmap(lambda i: mg.embedding(i, scores[0]))(Tensor(labels))


def test_dropout_draws_for_each_example():
    masks = mg.vmap(lambda x: mg.vmap(lambda y: mg.dropout(x * y, 0.5))(mg.ones(2, 30)))(mg.ones(3, 30)).numpy()
    assert masks.shape == (3, 2, 30) and len({tuple(row) for row in masks.reshape(6, 30)}) == 6
    assert set(np.unique(masks)) == {0, 2}


def test_a_tensor_inside_vmap_can_be_printed():
    shown = []
    mg.vmap(lambda x: shown.append(repr(x)) or x * 2)(Tensor(np.ones((3, 2))))
    assert "3 examples of (2,) float64" in shown[0]
