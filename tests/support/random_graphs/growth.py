"""How a random graph grows: the steps that make new tensors, in minigrad and in the naive engine alike.

A step may be an op, a view, an index, a tensor that is detached from the graph, or a write to a leaf.
"""

import operator
from contextlib import nullcontext

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

import minigrad as mg
from tests.support import naive_engine as naive
from tests.support.naive_engine import Value
from tests.support.random_graphs.pairs import Pair, close, largest_in
from tests.support.strategies import axes, booleans, indices, seeds

STEPS: list[str] = []
"""The names of the steps, each as often as it is to be taken in comparison."""

LARGEST, MOST, LIVE = 3.0, 36, 14
"""Values are scaled down to this; most elements of a tensor; most tensors alive."""

# For each op: what minigrad does and what the naive engine does.
SMOOTH = {
    "sin": (mg.sin, lambda x: naive.apply(np.sin, x)),
    "cos": (mg.cos, lambda x: naive.apply(np.cos, x)),
    "tanh": (mg.tanh, lambda x: naive.apply(np.tanh, x)),
    "exp": (mg.exp, lambda x: naive.apply(np.exp, x)),
    "sigmoid": (mg.sigmoid, naive.sigmoid),
    "softplus": (mg.softplus, naive.softplus),
    "square": (mg.square, naive.square),
    "cube": (lambda x: x**3, lambda x: naive.square(x) * x),
    "negative": (operator.neg, operator.neg),
    "log(1 + x^2)": (lambda x: mg.log(1 + x * x), lambda x: naive.apply(np.log, 1 + naive.square(x))),
    "sqrt(1 + x^2)": (lambda x: mg.sqrt(x * x + 1), lambda x: naive.apply(np.sqrt, 1 + naive.square(x))),
    "1 / (1 + x^2)": (lambda x: 1 / (1 + x * x), lambda x: naive.apply(np.reciprocal, 1 + naive.square(x))),
}
BENT = {
    "abs": (mg.abs, lambda x: naive.linear(lambda z: z * np.sign(x.data), x)),
    "relu": (mg.relu, naive.relu),
}
LINEAR_PAIRS = {
    "add": (operator.add, operator.add),
    "subtract": (operator.sub, operator.sub),
}
PAIRS = LINEAR_PAIRS | {
    "multiply": (operator.mul, operator.mul),
    "a / (1 + b^2)": (lambda a, b: a / (1 + b * b), lambda a, b: a / (1 + b * b)),
    "logaddexp": (mg.logaddexp, lambda a, b: b + naive.softplus(a - b)),
}
LINEAR_REDUCTIONS = {
    "sum": (mg.sum, naive.total),
    "mean": (mg.mean, naive.mean),
}
REDUCTIONS = LINEAR_REDUCTIONS | {
    "max": (mg.max, naive.largest),
    "var": (mg.var, naive.variance),
    "logsumexp": (mg.logsumexp, naive.logsumexp),
}
ALONG_AN_AXIS = {
    "softmax": (mg.softmax, naive.softmax),
    "prod": (mg.prod, naive.prod),
    "cumsum": (mg.cumsum, lambda x, axis: naive.linear(lambda z: np.cumsum(z, axis), x)),
}


def step(weight=1):
    """Enter a method in the table of steps."""

    def enter(method):
        STEPS.extend(weight * [method.__name__])
        return method

    return enter


def fits(shape, target):
    """Whether one shape broadcasts to the other."""
    return len(shape) <= len(target) and all(a in (1, b) for a, b in zip(shape[::-1], target[::-1], strict=False))


def combine(f, *shapes):
    """Whether f takes arrays of these shapes and makes something small of them."""
    try:
        return f(*(np.zeros(shape) for shape in shapes)).size <= MOST
    except ValueError:
        return False


class Growth(RuleBasedStateMachine):
    """The pool of pairs, and the steps that add to it.

    In a step, `self.draw` draws from a strategy and `self.random` makes numbers; hypothesis chose both.
    """

    def __init__(self):
        super().__init__()
        self.pairs: list[Pair] = []  # what the steps choose from
        self.all: list[Pair] = []

    # --- the pool ---

    def add(self, how, tensor, value, parents=(), size=0.0, **expected):
        """Compare a new tensor with what it should be; scale it down if it is large; put it in the pool."""
        close(tensor, value.data, max(size, 1 + largest_in([value])), how)
        flags = {parent.tracked for parent in parents}
        tracked = expected.pop("tracked", True if True in flags else None if None in flags else False)
        if tracked is not None:
            assert tensor.requires_grad == tracked, f"{how}: requires_grad is {tensor.requires_grad}"
        if (largest := largest_in([value])) > LARGEST:
            tensor, value = tensor * (LARGEST / largest), value * (LARGEST / largest)
            expected["memory_of"] = None
        if tracked is False:
            value, parents = Value(value.data), ()
        expected.setdefault("order", max((parent.order for parent in parents), default=0))
        pair = Pair(f"t{len(self.all)}", tensor, value, tuple(dict.fromkeys(parents)), tracked, **expected)
        note(f"{pair} = {how}")
        self.all.append(pair)
        self.pairs.append(pair)
        return pair

    def drop(self, pair):
        """As when the user's last reference goes. What was computed from it goes on without it."""
        self.pairs.remove(pair)
        pair.tensor, pair.grad, pair.keeps_grad = None, None, False

    @invariant()
    def few_are_alive(self):
        while len(self.pairs) > LIVE:
            self.drop(next((pair for pair in self.pairs if pair.parents), self.pairs[0]))

    # --- choosing ---

    def choose(self, *options):
        return self.draw(st.sampled_from(options))

    def numbers(self, shape):
        return np.asarray(self.random.uniform(-2, 2, shape))

    def one(self, suits=lambda pair: True):
        """A pair that suits; the latest ones more often, so that graphs grow deep. None if there is none."""
        suitable = [pair for pair in self.pairs if suits(pair)]
        return self.choose(*suitable, *suitable[-3:], *suitable[-3:]) if suitable else None

    def some(self, suits=lambda pair: True, unique=False):
        """One to three pairs that suit; none if there are none."""
        suitable = [pair for pair in self.pairs if suits(pair)]
        lists = st.lists(st.sampled_from(suitable or [None]), min_size=1, max_size=3, unique=unique)
        return self.draw(lists) if suitable else []

    def operand(self, suits, shape):
        """What combines with a tensor of this shape: (a tensor, an array or a number; its Value; its parents; name)."""
        pair = self.one(suits) if self.draw(st.integers(0, 3)) else None
        if pair:
            return pair.tensor, pair.value, [pair], pair
        constant = self.choose(0.5, -1.5, self.numbers(shape))
        return constant, Value(constant), [], "a constant"

    # --- leaves ---

    @initialize(random=seeds())
    def begin(self, random):
        self.random = random
        for shape in ((2, 3), (2, 3), (3,), ()):
            self.make_leaf(mg.tensor, self.numbers(shape), True)

    @step()
    def leaf(self):
        array = self.numbers(self.choose((), (1,), (3,), (2, 1), (2, 3), (3, 2), (3, 3), (2, 1, 3), (0,), (2, 0)))
        make = self.choose(mg.tensor, lambda array: mg.as_tensor(array.T.copy().T))
        self.make_leaf(make, array, self.draw(st.booleans()))

    def make_leaf(self, make, array, tracked):
        tensor = make(array).requires_grad_(tracked)
        self.add("leaf", tensor, Value(array, tracked=tracked), tracked=tracked, keeps_grad=tracked)

    @step()
    def forget(self):
        if len(self.pairs) > 3:
            self.drop(self.one())

    @step(2)
    def unrecorded(self):
        """A tensor detached from the graph."""
        x, how = self.one(lambda x: x.shape), self.choose("detach", "no_grad", "view in no_grad")
        if x is None:
            return
        of_tensor, of_value = {
            "detach": (lambda z: z.detach(), lambda z: z),
            "no_grad": SMOOTH["sin"],
            "view in no_grad": (lambda z: z[:1], lambda z: naive.linear(lambda z: z[:1], z)),
        }[how]
        with nullcontext() if how == "detach" else mg.no_grad():
            tensor = of_tensor(x.tensor)
            with mg.enable_grad():
                assert (x.tensor * 2).requires_grad == x.tensor.requires_grad
        memory_of = None if how == "no_grad" else x.memory_of or x
        self.add(f"{how} of {x}", tensor, of_value(x.value), tracked=False, memory_of=memory_of)

    # --- ops ---

    @step(3)
    def elementwise(self):
        x = self.one()
        for name in self.draw(st.lists(st.sampled_from([*SMOOTH, *BENT]), min_size=1, max_size=3)):
            if name in SMOOTH or np.abs(x.value.data).min(initial=1) > 1e-3:
                of_tensor, of_value = (SMOOTH | BENT)[name]
                x = self.add(f"{name} of {x}", of_tensor(x.tensor), of_value(x.value), [x])

    @step(3)
    def binary(self):
        x, name = self.one(), self.choose(*PAIRS)
        other, value, parents, what = self.operand(lambda y: combine(np.add, x.shape, y.shape), x.shape)
        of_tensors, of_values = PAIRS[name]
        needs_values = name not in LINEAR_PAIRS
        if self.draw(st.booleans()):
            tensor, value, how = of_tensors(x.tensor, other), of_values(x.value, value), f"{name} of {x} and {what}"
        else:
            tensor, value, how = of_tensors(other, x.tensor), of_values(value, x.value), f"{name} of {what} and {x}"
        self.add(how, tensor, value, [x, *parents], needs_values=needs_values)

    @step(2)
    def matmul(self):
        a = self.one(lambda a: a.shape)
        b = self.one(lambda b: a and b.shape and combine(np.matmul, a.shape, b.shape))
        if b:
            self.add(f"{a} @ {b}", a.tensor @ b.tensor, naive.matmul(a.value, b.value), [a, b])

    @step(2)
    def reduction(self):
        x, name = self.one(lambda x: 0 not in x.shape), self.choose(*REDUCTIONS)
        options = {"axis": self.draw(axes(len(x.shape) if x else 0)), "keepdims": self.draw(st.booleans())}
        if x is None or (name == "max" and not has_a_clear_winner(x.value.data, options["axis"])):
            return
        of_tensor, of_value = REDUCTIONS[name]
        tensor, value = of_tensor(x.tensor, **options), of_value(x.value, **options)
        self.add(f"{name} of {x}, {options}", tensor, value, [x], needs_values=name not in LINEAR_REDUCTIONS)

    @step(2)
    def along_an_axis(self):
        x, name = self.one(lambda x: x.shape and 0 not in x.shape), self.choose(*ALONG_AN_AXIS)
        if x:
            axis = self.draw(st.integers(0, len(x.shape) - 1))
            of_tensor, of_value = ALONG_AN_AXIS[name]
            how = f"{name} of {x} along {axis}"
            self.add(how, of_tensor(x.tensor, axis=axis), of_value(x.value, axis=axis), [x])

    @step()
    def cross_entropy(self):
        x = self.one(lambda x: len(x.shape) == 2 and x.shape[1])
        if x:
            target = self.random.integers(0, x.shape[1], x.shape[0])
            tensor = mg.softmax_cross_entropy(x.tensor, mg.tensor(target))
            self.add(f"cross-entropy of {x}, {target}", tensor, naive.cross_entropy(x.value, target), [x])

    @step()
    def batch_norm(self):
        x = self.one(lambda x: len(x.shape) == 2 and x.shape[0] > 1 and x.shape[1])
        weight, bias = (self.one(lambda w: x and w.shape == x.shape[1:]) for _ in range(2))
        if weight:
            tensor = mg.batch_norm(x.tensor, weight.tensor, bias.tensor, eps=0.1)
            value = naive.batch_norm(x.value, weight.value, bias.value, eps=0.1)
            self.add(f"batch norm of {x} with {weight} and {bias}", tensor, value, [x, weight, bias])

    # --- ops that only move values ---

    def moved(self, how, x, of_tensor, of_array):
        """A view of x, or what may be one."""
        value = naive.linear(of_array, x.value)
        self.add(how, of_tensor(x.tensor), value, [x], needs_values=False, memory_of=x.memory_of or x)

    @step(2)
    def view(self):
        x = self.one()
        size = x.value.data.size
        shape = self.choose(x.shape[::-1], (size,), (1, *x.shape), (size, 1), (1, size, 1))
        order = tuple(self.draw(st.permutations(range(len(x.shape)))))
        larger = tuple(2 if n == 1 else n for n in x.shape)
        name, *arguments = self.choose(
            ("reshape", shape),
            ("transpose", order),
            ("transpose",),
            ("flip",),
            ("broadcast_to", larger),
            ("broadcast_to", (2, *x.shape) if size <= MOST / 2 else x.shape),
        )
        of_tensor, of_array = getattr(mg, name), getattr(np, name)
        self.moved(
            f"{name} of {x}, {arguments}", x, lambda z: of_tensor(z, *arguments), lambda z: of_array(z, *arguments)
        )

    @step(3)
    def part(self):
        x = self.one()
        index = self.draw(indices(x.shape))
        if x.value.data[index].size <= MOST:  # minigrad counts every part as a view, those by arrays of integers too
            self.moved(f"{x}[{index!r}]", x, lambda z: z[index], lambda z: z[index])

    @step()
    def split(self):
        x = self.one(lambda x: x.shape)
        if x:
            axis = self.draw(st.integers(0, len(x.shape) - 1))
            place = self.draw(st.integers(0, x.shape[axis]))
            for i, part in enumerate(mg.split(x.tensor, [place], axis)):
                how = f"part {i} of {x} split along {axis} at {place}"
                self.moved(how, x, lambda z, part=part: part, lambda z, i=i: np.split(z, [place], axis)[i])

    def joined(self, how, tensor, of_arrays, *parts):
        """Of (value, parents) pairs."""
        value = naive.linear(of_arrays, *(value for value, _ in parts))
        self.add(how, tensor, value, [parent for _, parents in parts for parent in parents], needs_values=False)

    @step(2)
    def write(self):
        """index_update or index_add."""
        x, adding = self.one(), self.draw(st.booleans())
        index = self.draw(indices(x.shape, distinct_elements=not adding))
        shape = x.value.data[index].shape
        other, value, parents, what = self.operand(lambda y: fits(y.shape, shape), shape)

        def of_arrays(z, v):
            z = np.array(z)
            if adding:
                np.add.at(z, index, np.broadcast_to(v, shape))  # NumPy 2.4 reads past the end of a v that is smaller
            else:
                z[index] = v
            return z

        f = mg.index_add if adding else mg.index_update
        how = f"{x} with {what} {'added to' if adding else 'as'} [{index!r}]"
        self.joined(how, f(x.tensor, index, other), of_arrays, (x.value, [x]), (value, parents))

    @step()
    def where(self):
        x = self.one()
        other, value, parents, what = self.operand(lambda y: combine(np.add, x.shape, y.shape), x.shape)
        condition = self.draw(booleans(x.shape))
        tensor = mg.where(condition, x.tensor, other)
        how = f"{x} where {condition.tolist()}, else {what}"
        self.joined(how, tensor, lambda a, b: np.where(condition, a, b), (x.value, [x]), (value, parents))

    @step(2)
    def join(self):
        """concatenate or stack."""
        function = self.choose("concatenate", "stack")
        x = self.one(lambda x: function == "stack" or x.shape)
        if x is None:
            return
        axis = self.draw(st.integers(0, len(x.shape) - (function == "concatenate")))
        of_tensors, of_arrays = getattr(mg, function), getattr(np, function)
        parts = [x, *self.some(lambda y: combine(lambda *z: of_arrays(z, axis), x.shape, y.shape))]
        if sum(part.value.data.size for part in parts) <= MOST:
            tensor = of_tensors([part.tensor for part in parts], axis)
            values = ((part.value, [part]) for part in parts)
            self.joined(f"{function} of {parts} along {axis}", tensor, lambda *z: of_arrays(z, axis), *values)


def has_a_clear_winner(x, axis):
    """Whether the largest value is so by a margin, in every slice along these axes."""
    return ((x > x.max(axis=axis, keepdims=True) - 1e-3).sum(axis=axis) == 1).all()
