"""What holds on paper for the methods, for any gradients.

Claimed: Adam and its kind do not see the scale of the loss; SGD and momentum do not see which way the axes lie; the
first step of Adam is the rate; `maximize` is the mirror image; weight decay is the gradient of half a square, and
decoupled from the gradient the same thing for SGD, but not for Adam; and where one method is another's special case,
the two are one.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minigrad as mg
from minigrad import optim
from tests.support.optim_makers import check_the_way_down, leaves, run, values
from tests.support.optim_zoo import CASES, ZOO, combinations

LENGTH = 4
SIZES = st.floats(0.01, 10)
NUMBERS = st.builds(lambda size, sign: size * sign, SIZES, st.sampled_from([-1, 1]))
STARTS = arrays("f8", LENGTH, elements=NUMBERS)
GRADIENTS = st.lists(arrays("f8", LENGTH, elements=NUMBERS), min_size=1, max_size=12)


def path(name, options, start, gradients):
    """Where the parameter is after each of the gradients."""
    params = leaves(start)
    optimizer = getattr(optim, name)(params, **options)
    places = []
    for g in gradients:
        run(optimizer, params, [[g]])
        places.append(values(params)[0])
    return np.array(places)


def assert_same_path(a, b, rtol=1e-12):
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1))


# --- what they do not see ---

SCALE_FREE = [
    (name, {**options, "eps": 0})
    for name in ("Adagrad", "RMSprop", "Adam", "AdamW", "Adamax", "NAdam")
    for options in combinations(name)
    # The first term of the sum and coupled decay have a scale of their own.
    if not options.get("initial_accumulator_value") and (not options["weight_decay"] or name == "AdamW")
]


@pytest.mark.parametrize(("name", "options"), SCALE_FREE)
@given(STARTS, GRADIENTS, st.floats(1e-6, 1e6))
def test_without_epsilon_the_scale_of_the_gradients_makes_no_difference(name, options, start, gradients, scale):
    options = {**options, "lr": 0.01}
    scaled = path(name, options, start, [scale * g for g in gradients])
    assert_same_path(scaled, path(name, options, start, gradients))


@given(STARTS, GRADIENTS, st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**30]))
def test_lion_sees_signs_alone(start, gradients, scale):
    """A power of two: another factor could round the sum of a gradient and its mean to the other side of 0."""
    np.testing.assert_array_equal(
        path("Lion", {}, start, [scale * g for g in gradients]), path("Lion", {}, start, gradients)
    )


ROTATABLE = [
    (n, {k: v for k, v in o.items() if k != "maximize"})
    for n in ("SGD", "HeavyBall", "Nesterov")
    for o in combinations(n)
] + [("NAGC", {}), ("NAGSC", {"strong_convexity": 2.0})]


@pytest.mark.parametrize(("name", "options"), ROTATABLE)
@given(STARTS, GRADIENTS, st.integers(0, 1000))
def test_sgd_and_momentum_turn_with_the_axes(name, options, start, gradients, seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((LENGTH, LENGTH)))
    turned = path(name, {"lr": 0.1, **options}, q @ start, [q @ g for g in gradients])
    assert_same_path(turned, path(name, {"lr": 0.1, **options}, start, gradients) @ q.T, 1e-11)


def test_adam_does_not_turn_with_the_axes():
    q = np.array([[1.0, -1], [1, 1]]) / np.sqrt(2)
    start, g = np.zeros(2), np.array([1.0, 0])
    assert (
        np.abs(path("Adam", {"lr": 1.0}, q @ start, [q @ g]) - path("Adam", {"lr": 1.0}, start, [g]) @ q.T).max() > 0.2
    )


@given(st.integers(0, 1000))
def test_muon_turns_with_the_axes_on_both_sides_and_does_not_see_the_scale(seed):
    rng = np.random.default_rng(seed)
    (q, _), (r, _) = (np.linalg.qr(rng.standard_normal((n, n))) for n in (4, 3))
    start, gradients = rng.standard_normal((4, 3)), [rng.standard_normal((4, 3)) for _ in range(5)]
    options = {"lr": 0.1, "eps": 0}
    turned = path("Muon", options, q @ start @ r, [1e4 * (q @ g @ r) for g in gradients])
    assert_same_path(turned, q @ path("Muon", options, start, gradients) @ r, 1e-10)


@given(st.integers(0, 1000))
def test_muon_brings_the_singular_values_of_a_step_near_1(seed):
    rng = np.random.default_rng(seed)
    u, _, vh = np.linalg.svd(rng.standard_normal((5, 8)), full_matrices=False)
    g = (u * rng.uniform(0.05, 1, 5)) @ vh
    (step,) = -path("Muon", {"lr": 1.0, "weight_decay": 0}, np.zeros((5, 8)), [g])
    assert np.all(np.abs(np.linalg.svd(step)[1] - 0.95) < 0.3)


# --- sizes of steps ---

FIRST_STEPS = {
    "Adam": ({}, 1),
    "AdamW": ({"weight_decay": 0}, 1),
    "Adam with AMSGrad": ({"amsgrad": True}, 1),
    "Adam with epsilon inside": ({"eps_inside_sqrt": True}, 1),
    "Adam without bias correction": ({"bias_correction": False}, 0.1 / np.sqrt(0.001)),
    "Adamax": ({}, 1),
    "Adagrad": ({}, 1),
    "RMSprop": ({}, 10),
    "RMSprop with nesterov": ({"momentum": 0.9, "nesterov": True}, 19),
}


@pytest.mark.parametrize("name", FIRST_STEPS)
@given(STARTS, STARTS, st.floats(1e-5, 1))
def test_the_first_step_has_the_size_of_the_rate_whatever_the_gradient(name, start, g, lr):
    options, factor = FIRST_STEPS[name]
    (place,) = path(name.split()[0], {"lr": lr, "eps": 0, **options}, start, [g])
    np.testing.assert_allclose(place - start, -lr * factor * np.sign(g), rtol=1e-10, atol=1e-13)


@given(STARTS, GRADIENTS)
def test_lion_moves_every_number_by_the_rate(start, gradients):
    places = path("Lion", {"lr": 0.5}, start, gradients)
    moved = np.abs(np.diff([start, *places], axis=0))
    assert np.all((np.abs(moved - 0.5) < 1e-12) | (moved == 0))


# --- maximize ---


@pytest.mark.parametrize("name", [name for name in ZOO if name != "Muon"])
@given(STARTS, GRADIENTS, st.data())
def test_to_maximize_is_to_minimize_the_negative_bit_by_bit(name, start, gradients, data):
    options = data.draw(st.sampled_from(list(combinations(name))))
    up = path(name, {**options, "maximize": True}, start, gradients)
    np.testing.assert_array_equal(up, path(name, {**options, "maximize": False}, start, [-g for g in gradients]))


# --- weight decay ---


@given(STARTS, GRADIENTS, st.floats(0, 1))
def test_for_sgd_coupled_and_decoupled_decay_are_one(start, gradients, decay):
    lr, p = 0.1, start
    for g, place in zip(gradients, path("SGD", {"lr": lr, "weight_decay": decay}, start, gradients), strict=True):
        p = (1 - lr * decay) * p - lr * g
        assert_same_path(place, p)


def test_for_adam_they_are_not():
    start, gradients = np.array([1.0, 100.0]), [np.array([1.0, 1.0])] * 3
    coupled = path("Adam", {"lr": 0.1, "weight_decay": 0.5}, start, gradients)
    decoupled = path("AdamW", {"lr": 0.1, "weight_decay": 0.5}, start, gradients)
    assert np.abs(coupled - decoupled).max() > 1


COUPLED = [(n, o) for n in ZOO for o in combinations(n) if o["weight_decay"] and not o["maximize"]]
COUPLED = [(n, o) for n, o in COUPLED if n not in ("AdamW", "Lion", "Muon") and not o.get("decoupled_weight_decay")]


@pytest.mark.parametrize(("name", "options"), COUPLED)
def test_coupled_decay_is_half_a_square_added_to_the_loss(name, options):
    start, target = np.array([1.0, -2.0, 0.5]), mg.tensor(np.array([0.3, 0.2, -3.0]))
    decay, results = options["weight_decay"], []
    for inside in (True, False):
        (p,) = leaves(start)
        optimizer = getattr(optim, name)([p], lr=0.01, **{**options, "weight_decay": 0 if inside else decay})
        for _ in range(20):
            optimizer.zero_grad()
            loss = ((p - target) ** 4).sum()
            (loss + decay / 2 * (p * p).sum() if inside else loss).backward()
            optimizer.step()
        results.append(values([p])[0])
    assert_same_path(*results)


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "AdamW", "Lion"])
@given(STARTS, GRADIENTS)
def test_decoupled_decay_is_shrinking_before_a_step_without_decay(name, start, gradients):
    asked = {"decoupled_weight_decay": True} if name in ("Adam", "NAdam", "RAdam") else {}
    places = path(name, {"lr": 0.1, "weight_decay": 0.3, **asked}, start, gradients)
    (p,) = leaves(start)
    optimizer = getattr(optim, name)([p], lr=0.1, weight_decay=0)
    for g, place in zip(gradients, places, strict=True):
        p.copy_(p.detach() * (1 - 0.1 * 0.3))
        run(optimizer, [p], [[g]])
        assert_same_path(values([p])[0], place)


# --- special cases ---

ONE_METHOD = [
    (("AdamW", {"weight_decay": 0.1}), ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True})),
    (("RMSprop", {}), ("Adam", {"betas": (0, 0.99), "bias_correction": False, "lr": 0.01})),
    (
        ("RMSprop", {"eps_inside_sqrt": True}),
        ("Adam", {"betas": (0, 0.99), "bias_correction": False, "eps_inside_sqrt": True, "lr": 0.01}),
    ),
    (("HeavyBall", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9})),
    (("HeavyBall", {"lr": 0.1, "momentum": 0}), ("SGD", {"lr": 0.1})),
    (("Nesterov", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True})),
    (("NAGSC", {"lr": 0.1, "strong_convexity": 10.0}), ("SGD", {"lr": 0.1})),
    (("NAGSC", {"lr": 0.01, "strong_convexity": 1.0}), ("Nesterov", {"lr": 0.01, "momentum": 9 / 11})),
]


@pytest.mark.parametrize(("one", "other"), ONE_METHOD)
@given(STARTS, GRADIENTS)
def test_one_method_is_the_others_special_case(one, other, start, gradients):
    assert_same_path(path(*one, start, gradients), path(*other, start, gradients))


@given(STARTS, GRADIENTS)
def test_radam_is_sgd_with_momentum_until_the_variance_can_be_told(start, gradients):
    gradients = gradients[:5]  # with beta2 = 0.999
    p, m = start, 0
    for t, (g, place) in enumerate(zip(gradients, path("RAdam", {"lr": 0.1}, start, gradients), strict=True), 1):
        m = 0.9 * m + 0.1 * g
        p = p - 0.1 * m / (1 - 0.9**t)
        assert_same_path(place, p)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_optimizer_goes_downhill_or_uphill(name, options):
    lr = 1.0 if name == "Adadelta" else 0.01
    check_the_way_down(name, {**options, "lr": lr, "weight_decay": 0}, [[1.0, -2.0, 3.0]])
