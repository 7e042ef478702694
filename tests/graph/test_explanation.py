"""Explanations: the text of small ones, worked out by hand; and of random ones, that every number in them is true."""

import math
import re

import numpy as np
import pytest
import scipy.special
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GradientError, ShapeError, autograd, transforms
from minigrad.autograd import contributions
from minigrad.autograd.primitive import OPS
from minigrad.graph.explanation import explain
from minigrad.graph.wording import local_text
from tests.support import strict_backend
from tests.support.op_cases import CASES
from tests.support.strategies import uniform


def leaf(values, **options):
    return mg.tensor(np.asarray(values, "f8"), requires_grad=True, **options)


def lines(explanation):
    """Its lines, without the spaces that align them."""
    return [re.sub(" {4,}", "    ", line.strip()) for line in str(explanation).splitlines()]


# --- by hand ---


def test_a_product_and_a_sum_in_full():
    a, b = leaf(2), leaf(3)
    c = a * b
    assert (
        str(explain(c + a, a=a, b=b, c=c))
        == """\
forward
  a = 2
  b = 3
  c = a * b = 2 * 3 = 6
  e = c + a = 6 + 2 = 8

backward, last step first; dc is the gradient at c, dc/da the derivative of one step alone
  de = 1
  e = c + a:
    de/dc = 1    to c: 1 * 1 = 1
    de/da = 1    to a: 1 * 1 = 1
  dc = 1
  c = a * b:
    dc/da = b = 3    to a: 1 * 3 = 3
    dc/db = a = 2    to b: 1 * 2 = 2

gradients of e
  da = 1 + 3 = 4 (two paths)
  db = 2"""
    )


def test_an_explanation_shows_itself_and_gives_the_gradients_by_name():
    x = leaf([1, 2])
    explanation = explain((x * x).sum(), x=x)
    assert repr(explanation) == str(explanation) == explanation.text
    np.testing.assert_array_equal(explanation.gradients["x"].numpy(), [2, 4])


def test_what_broadcasting_repeated_is_summed_and_the_text_says_over_what():
    x, b = leaf([[1, 2, 3], [4, 5, 6]]), leaf([10, 20, 30])
    shown = lines(explain((x * b).sum(), x=x, b=b))
    at = "[[1, 1, 1], [1, 1, 1]] * [[1, 2, 3], [4, 5, 6]] = [[1, 2, 3], [4, 5, 6]]"
    assert f"to b: {at}, summed over axis 0, because b was repeated: [5, 7, 9]" in shown
    assert shown[-2:] == ["dx = [[10, 20, 30], [10, 20, 30]]", "db = [5, 7, 9]"]
    column, number = leaf([[1], [2]]), leaf(3)
    text = str(explain((x * column * number).sum(), column=column, number=number))
    assert "summed over axis 1, because column was repeated: [[18], [45]]" in text
    assert "summed over axes 0 and 1, because number was repeated: 36" in text


def test_every_use_is_a_path():
    x = leaf(3)
    shown = lines(explain(x * x - x, x=x))
    assert "da/dx in place 1 = x = 3    to x: 1 * 3 = 3" in shown
    assert "da/dx in place 2 = x = 3    to x: 1 * 3 = 3" in shown
    assert shown[-1] == "dx = -1 + 3 + 3 = 5 (three paths)"
    total = sum((x * k for k in range(1, 10)), start=x * 0)
    assert lines(explain(total, x=x))[-1] == "dx = 45 (the sum of 10 paths)"


def test_the_local_derivative_is_said_in_the_words_of_the_call():
    speed, time = leaf(3), leaf(2)
    shown = lines(explain(speed / time + mg.square(speed), speed=speed, time=time))
    assert "da/dspeed = 1/time = 0.5    to speed: 1 * 0.5 = 0.5" in shown
    assert "da/dtime = -speed/time^2 = -0.75    to time: 1 * (-0.75) = -0.75" in shown
    assert "db/dspeed = 2 speed = 6    to speed: 1 * 6 = 6" in shown
    assert "b = speed^2 = 3^2 = 9" in shown


def test_a_matrix_product_shows_what_the_rule_gives_and_its_shape():
    a, b = leaf([[1, 2]]), leaf([[3], [4]])
    shown = lines(explain(a @ b, np.asarray([[10.0]]), a=a, b=b))
    assert "c = a @ b = [[1, 2]] @ [[3], [4]] = [[11]]" in shown
    assert "dc/da: b'    to a: [[30, 40]], shape (1, 2)" in shown
    assert "dc/db: a'    to b: [[10], [20]], shape (2, 1)" in shown


def test_a_fused_op_is_explained_by_its_kernel():
    scores = leaf([[1, 2], [3, 3]])
    explanation = explain(mg.softmax_cross_entropy(scores, mg.tensor([1, 0])).sum(), scores=scores)
    assert re.search(r"da/dscores: softmax\(x\) - truth    to scores: .*, shape \(2, 2\)", explanation.text)
    first = 1 / (1 + math.e)
    np.testing.assert_allclose(explanation.gradients["scores"].numpy(), [[first, -first], [-0.5, 0.5]], rtol=1e-12)


def test_the_constant_of_a_sum_is_found_again_although_no_rule_asked_for_it():
    x = leaf(0.5)
    assert "b = exp(a) = exp(-0.5) = 0.606531" in lines(explain(1 / (1 + mg.exp(-x)), x=x))
    assert "c = 1 + b = 1 + 0.606531 = 1.60653" in lines(explain(1 / (1 + mg.exp(-x)), x=x))
    assert "a = x + 0.1 = 0.5 + 0.1 = 0.6" in lines(explain(2 * (x + 0.1), x=x))
    row, target = leaf([[1, 2], [3, 4]]), mg.tensor(np.asarray([0.5, 1.5]))
    shown = lines(explain(((row - target) ** 2).sum(), row=row, target=target))
    assert "target = [0.5, 1.5], a constant" in shown
    assert any(line.startswith("a = row - target = ") for line in shown)
    assert "a = x - half = 0.5 - 0.5 = 0" in lines(explain((x - (half := mg.tensor(0.5))) ** 2, x=x, half=half))


def test_what_cannot_be_found_is_not_made_up():
    x = leaf([1, 2])
    explanation = explain((x + 1).sum(), x=x)
    assert "a = x + const" in lines(explanation)
    assert lines(explanation)[-1].startswith("const: a constant that no rule asked for")
    np.testing.assert_array_equal(explanation.gradients["x"].numpy(), [1, 1])


def test_where_zero_meets_infinity_no_product_is_claimed(new_op):
    @new_op(kind="elementwise", local="inf")
    def steep(x):
        return x * 1

    steep.defvjp(x=lambda g: mg.where(g == 0, 0.0, g * math.inf))
    x = leaf([1, 2])
    shown = lines(explain((steep(x) * mg.tensor([0.0, 1.0])).sum(), x=x))
    assert "da/dx: inf    to x: [0, inf], shape (2,)" in shown


def test_a_long_tensor_is_shown_by_its_first_numbers_and_its_shape():
    x = leaf(np.arange(100.0).reshape(20, 5))
    text = str(explain((x * x).mean(), x=x))
    assert "x = [0, 1, 2, ...] (20, 5)" in text and "dx = [0, 0.02, 0.04, ...] (20, 5)" in text
    assert max(map(len, text.splitlines())) < 150


def test_an_argument_without_a_gradient_by_nature_is_named_as_such():
    condition, x = leaf([0, 1]), leaf([2, 3])
    explanation = explain(mg.where(condition, x, 0 * x).sum(), condition=condition, x=x)
    assert "dcondition: none, for no rule gives it one" in lines(explanation)
    assert set(explanation.gradients) == {"x"}


def test_an_op_of_ones_own_is_explained_like_any_other(new_op):
    @new_op(kind="elementwise")
    def doubled(x):
        return x + x

    doubled.defvjp(x=lambda g: g + g)
    x = leaf(4)
    assert "da/dx = 2    to x: 1 * 2 = 2" in lines(explain(doubled(x), x=x))


def test_indices_and_options_are_written_as_they_were_given():
    x = leaf([[1, 2], [3, 4], [5, 6]])
    text = str(explain((x[1:, 0] * mg.sum(x, axis=0)).sum(), x=x))
    assert "= x[1:, 0] = " in text and "= sum(x, axis=0) = " in text


# --- names ---


def test_names_come_from_the_caller_then_from_the_tensor_then_from_the_alphabet():
    a, b, c = leaf(1), leaf(2), leaf(3)
    a.name, b.name, c.name = "w", "w", "0.bias"
    h = a * b
    shown = lines(explain(h + c + leaf(5), h=h))
    assert shown[1:4] == ["w = 1", "w_1 = 2", "0.bias = 3"]
    assert "h = w * w_1 = 1 * 2 = 2" in shown
    assert "d(0.bias) = 1" in shown


def test_letters_do_not_clash_with_names_and_give_way_to_numbers_when_they_are_too_few():
    x = leaf(1)
    assert "b = a * 2 = 3 * 2 = 6" in lines(explain(leaf(3) * 2))
    shown = lines(explain(leaf(3) * x, a=x))
    assert "c = b * a = 3 * 1 = 3" in shown
    y = x
    for _ in range(30):
        y = y * 2
    assert "v30 = v29 * 2 = 5.36871e+08 * 2 = 1.07374e+09" in lines(explain(y, x=x))


def test_parameters_are_named_by_their_module():
    layer = mg.nn.Linear(2, 1)
    text = str(explain(layer(mg.ones(1, 2)).sum(), params=layer))
    assert "  weight = [[" in text and "linear(k1, weight, bias)" in text


# --- what it refuses ---


def test_what_cannot_be_explained_is_refused_in_words():
    x = leaf([1, 2])
    with pytest.raises(TypeError, match=r"explain: expected a Tensor, got float"):
        explain(1.0)
    with pytest.raises(TypeError, match=r"explain: expected a Tensor, got Linear; call it first, as in explain\(model"):
        explain(mg.nn.Linear(2, 2))
    with pytest.raises(GradientError, match=r"explain.*requires_grad=True"):
        explain(mg.tensor(1.0))
    with pytest.raises(GradientError, match=r"shape \(2,\).*or pass the gradient"):
        explain(x * 2)
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        explain(x * 2, np.ones(3))
    with pytest.raises(ValueError, match="not computed from the tensor given as y="):
        explain(x.sum(), y=leaf(1))
    with pytest.raises(TypeError, match="y= must be a Tensor, got int"):
        explain(x.sum(), y=1)


def test_a_graph_that_is_too_long_is_counted_not_written_out():
    y = x = leaf(1)
    for _ in range(5000):
        y = y * 1
    with pytest.raises(ValueError, match=r"5,000 steps.*limit=300.*pass limit=5000"):
        explain(y)
    y = x
    for _ in range(400):
        y = y * 1
    assert lines(explain(y, limit=400, x=x))[-1] == "dx = 1"


def test_after_a_backward_pass_it_says_what_to_do():
    x = leaf(2)
    y = x * x
    y.backward()
    with pytest.raises(GradientError, match=r"freed by an earlier backward pass.*retain_graph=True"):
        explain(y)


def test_numbers_that_were_overwritten_are_not_shown():
    w, b = leaf([1, 2]), leaf([3, 4])
    used, unused = (w * w).sum(), (w + b).sum()
    w.copy_([9, 9])
    with pytest.raises(GradientError, match="changed in place"):
        explain(used)
    shown = lines(explain(unused, w=w, b=b))
    assert "w = ? (2,)" in shown and "b = [3, 4]" in shown and "9" not in str(shown)
    number = leaf(2)
    y = number + leaf(1)
    number.copy_(9).touch()
    assert "9" not in str(explain(y, number=number))


# --- nothing is changed ---


def test_explaining_leaves_no_trace():
    x, w = leaf([1, 2]), leaf([3, 4])
    called = []
    h = mg.tanh(x * w)
    h.register_hook(lambda g: called.append(1))
    y = (h * h).sum()
    nodes = [y.node, *(parent for parent in y.node.parents if parent), h.node]
    saved = [node.saved for node in nodes]
    text = str(explain(y, x=x, w=w))
    assert "backward() calls those of b" in text and not called
    assert x.grad is None and w.grad is None
    assert all(node.saved is before for node, before in zip(nodes, saved, strict=True))
    assert mg.is_grad_enabled()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), explain(_again(x, w)).gradients["a"].numpy())


def _again(x, w):
    return (mg.tanh(x * w) ** 2).sum()


def test_an_op_that_tells_somebody_is_not_run_again():
    x, told = leaf(np.arange(6.0).reshape(3, 2)), []
    y = mg.batch_norm(x, observe=lambda mean, variance: told.append(mean))
    explain((y * y * y).sum())
    assert len(told) == 1


def test_what_a_checkpoint_dropped_is_computed_again_and_backward_still_goes():
    x = leaf([1, 2])
    y = transforms.checkpoint(lambda x: mg.tanh(x * x))(x).sum()
    inside = [node for node in (y.node.parents[0], y.node.parents[0].parents[0]) if node.saved is None]
    assert inside
    found = explain(y, x=x).gradients["x"]
    assert all(node.saved is not None for node in inside)
    y.backward()
    np.testing.assert_allclose(found.numpy(), x.grad.numpy(), rtol=1e-12)


def test_a_rule_that_fails_leaves_recording_on(new_op):
    @new_op
    def broken(x):
        return x * 1

    with pytest.raises(GradientError, match="broken has no vjp rule for its argument 'x'"):
        explain(broken(leaf(1)))
    assert mg.is_grad_enabled()


def test_tensors_on_a_device_are_explained_there():
    """The stand-in for CuPy refuses whatever would mix device and host."""
    with strict_backend.installed():
        x, t = leaf([1, 2], device="cuda"), mg.tensor([0.5, 1.5], device="cuda")
        explanation = explain(((mg.tanh(x) - t) ** 2).sum(), x=x, t=t)
        assert "t = [0.5, 1.5], a constant" in lines(explanation) and "const" not in explanation.text.split()
        (expected,) = autograd.grad(((mg.tanh(x) - t) ** 2).sum(), x)
        np.testing.assert_allclose(explanation.gradients["x"].numpy(), expected.numpy(), rtol=1e-12)


# --- random expressions ---

STEPS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (b * b + 1),
    "sin": lambda a, b: mg.sin(a),
    "exp": lambda a, b: mg.exp(mg.tanh(a)),
    "^": lambda a, b: a**2,
    "shift": lambda a, b: (a + 0.75) * b,
    "minus": lambda a, b: 1.5 - a,
    "neg": lambda a, b: -a,
}


@st.composite
def expressions(draw, shapes=((),)):
    """(leaves, output): some leaves, and a number computed from all of them by a random graph."""
    leaves = [leaf(draw(uniform(draw(st.sampled_from(shapes))))) for _ in range(draw(st.integers(1, 3)))]
    values = list(leaves)
    for _ in range(draw(st.integers(1, 8))):
        step = STEPS[draw(st.sampled_from(sorted(STEPS)))]
        values.append(step(draw(st.sampled_from(values)), draw(st.sampled_from(values))))
    total = sum((x.sum() if x.ndim else x for x in leaves), start=values[-1].mean() if values[-1].ndim else values[-1])
    assume(abs(total.item()) < 1e6)
    return leaves, total


def named(leaves):
    return {f"x{i}": x for i, x in enumerate(leaves)}


@given(expressions(shapes=((), (3,), (2, 3), (2, 1), (1, 3))))
def test_the_gradients_of_any_expression_are_those_of_autograd(drawn):
    leaves, y = drawn
    explained = explain(y, **named(leaves)).gradients
    assert all(x.grad is None for x in leaves)
    expected = autograd.grad(y, leaves)  # walks the same graph, which has not been freed
    for name, gradient in zip(named(leaves), expected, strict=True):
        assert explained[name].dtype == gradient.dtype
        np.testing.assert_allclose(explained[name].numpy(), gradient.numpy(), rtol=1e-12, atol=1e-12)


@given(expressions())
def test_every_equation_that_is_shown_is_true(drawn):
    """Each chain `... = 2 * 3 = 6` of the text is read back and worked out by Python."""
    leaves, y = drawn
    text = str(explain(y, **named(leaves)))
    equations = 0
    for line in text.splitlines():
        for chain in re.split(r" {4}|: ", line):
            sides = [side for side in re.sub(r" \([a-z ]+ paths\)", "", chain).split(" = ") if is_number(side)]
            worked_out = [worked(side) for side in sides]
            equations += len(sides) > 1
            np.testing.assert_allclose(worked_out, worked_out[:1] * len(sides), rtol=1e-4, atol=1e-4, err_msg=line)
    assert equations >= text.count(":\n")  # one at least for each step back


@given(expressions())
def test_the_gradients_in_the_text_are_the_gradients(drawn):
    leaves, y = drawn
    shown = str(explain(y, **named(leaves))).split("gradients of ")[1]
    expected = dict(zip(named(leaves), autograd.grad(y, leaves), strict=True))
    for name, gradient in expected.items():
        (line,) = re.findall(rf"  d{name} = (.*)", shown)
        found = re.sub(r" \([a-z ]+ paths\)$", "", line).split(" = ")[-1]
        np.testing.assert_allclose(float(found), gradient.item(), rtol=1e-5)


def is_number(side):
    return re.fullmatch(r"(?:sin|exp|tanh|[-+*/^(). \d]|e[-+]\d)+", side) and re.search(r"\d", side)


def worked(side):
    return eval(side.replace("^", "**"), {"sin": math.sin, "exp": math.exp, "tanh": math.tanh})


# --- the words that ops state ---

PROSE = "maximum minimum where keep_where clip logaddexp relu gelu_tanh gelu_tanh_slope".split()  # words, no formula
STATED = [
    name
    for name, op in OPS.items()
    if ("OPS", name) in CASES and op.kind == "elementwise" and name not in PROSE and op.differentiable
]
FUNCTIONS = {name: getattr(np, name) for name in "exp log sqrt sin cos sinh cosh tan tanh sign floor pi".split()}
FUNCTIONS |= {"s": scipy.special.expit, "P": scipy.special.ndtr, "p": lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)}


@pytest.mark.parametrize("name", STATED)
@settings(max_examples=settings.default.max_examples // 4)
@given(st.data())
def test_the_local_derivative_that_an_op_states_is_the_one_its_rule_computes(name, data):
    """The text of `local` is read as a formula and worked out by NumPy."""
    op, call = OPS[name], data.draw(CASES["OPS", name].calls)
    tensors = [mg.as_tensor(np.asarray(x)).requires_grad_() for x in call.variables()]
    out = call.with_variables(tensors)(op)
    values = FUNCTIONS | op.options | call.options
    values |= dict(zip(op.argument_names, call.args, strict=True))
    for position, x in enumerate(tensors):
        stated = eval(as_python(local_text(out.node, position, {n: n for n in op.argument_names})), {}, values)
        (found,) = autograd.grad(out, x, np.ones(out.shape), retain_graph=True)
        expected = contributions.unbroadcast(np.broadcast_to(stated, out.shape), x.shape)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


def as_python(formula):
    """`2x` and `b a^(b-1)` with the signs that one leaves out on paper."""
    formula = re.sub(r"\blog (\d+)", r"log(\1)", formula).replace("^", "**")
    return re.sub(r"(?<=\d)(?=[a-z])|(?<=[\w)]) (?=[a-z(])|(?<=\))(?=\()", "*", formula)
