"""Walks over a random graph, backward and forward, and what must hold after each step.

A backward pass, `autograd.grad` and `push` owe their user right numbers, gradients in their places, hooks called once,
an error where saved values were freed, and no write to arrays that belong to others.
"""

import math
from collections import namedtuple
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

import minigrad as mg
from minigrad import GradientError, autograd
from tests.support import naive_engine as naive
from tests.support.naive_engine import Value
from tests.support.random_graphs.growth import STEPS, Growth, step
from tests.support.random_graphs.pairs import ancestors, between, close, largest_in
from tests.support.strategies import seeds

HIGHEST_ORDER, LARGEST_GRAPH = 3, 2000
"""How often the machine differentiates, and of how many naive Values it still does."""

Direction = namedtuple("Direction", "given value pair")
"""A cotangent or tangent: what minigrad is given, the Value of it, and the pair that it is, if it is one."""


@contextmanager
def refused(must, may):
    """Inside, minigrad must refuse the graph, may refuse it, or must not. `outcome.refused` says what it did."""
    outcome = SimpleNamespace(refused=False)
    try:
        yield outcome
    except GradientError as error:
        assert must or may, f"a graph that is whole was refused: {error}"
        outcome.refused = True
    assert outcome.refused or not must, "a graph whose saved values were freed was gone through"


def is_settled(outputs):
    """Whether the nodes that lead here are the user's. How a gradient was recorded is minigrad's own business."""
    return all(pair.order == 0 for pair in outputs)


def may_go_on(outputs):
    graph = naive.ancestors([pair.value for pair in outputs])
    return len(graph) < LARGEST_GRAPH and max(pair.order for pair in outputs) < HIGHEST_ORDER


class RandomGraphs(Growth):
    def __init__(self):
        super().__init__()
        self.kept = []  # gradients that somebody kept, and what they held
        self.sound = False  # whether the last step has gone well

    # --- what travels with a pass ---

    @step()
    def hook(self):
        pair, factor = self.one(lambda pair: pair.tracked and pair.order == 0), self.choose(-1.0, 0.5, 2.0)
        if pair:
            seen = []
            handle = pair.tensor.register_hook(lambda g: seen.append(g) or g * factor)
            pair.hooks.append((handle, factor, seen))
            note(f"a hook on {pair} that multiplies by {factor}")

    @step()
    def remove_hook(self):
        hooked = [pair for pair in self.all if pair.hooks]
        if hooked:
            pair = self.choose(*hooked)
            handle, factor, _ = pair.hooks.pop(self.draw(st.integers(0, len(pair.hooks) - 1)))
            handle.remove()
            note(f"the hook on {pair} that multiplies by {factor} removed")

    def remove_all_hooks(self):
        for pair in self.all:
            for handle, _, _ in pair.hooks:
                handle.remove()
            pair.hooks = []

    def factors(self):
        return {value: math.prod(f for _, f, _ in pair.hooks) for pair in self.all for value in pair.versions}

    @step()
    def retain_grad(self):
        pair = self.one(lambda pair: pair.tracked and pair.order == 0)
        if pair:
            self.keep_gradient(pair)

    def keep_gradient(self, pair):
        pair.tensor.retain_grad()
        pair.keeps_grad = True
        note(f"{pair} retains its gradient")

    @step()
    def set_grad(self):
        pair = self.one(lambda pair: pair.keeps_grad)
        if pair:
            pair.grad = self.choose(None, self.numbers(pair.shape))
            pair.tensor.grad = None if pair.grad is None else mg.tensor(pair.grad)
            note(f"{pair}.grad set")

    # --- backward ---

    @step(3)
    def backward(self):
        """From a tensor, or a random weighted sum of several, to `.grad` of the leaves and of what retains it."""
        outputs = self.some(lambda pair: pair.tracked and pair.order == 0)
        self.collect_gradients(outputs, self.choose(True, True, False), self.choose(False, False, True))

    def collect_gradients(self, outputs, retain=True, create_graph=False):
        if not outputs:
            return
        visited = {pair for pair in ancestors(outputs) if pair.parents}
        must, may = any(pair.freed for pair in visited), any(pair.stale for pair in visited)
        retain = retain or must or may
        weights = [self.numbers(pair.shape) for pair in outputs]
        note(f"backward from {outputs}, {retain=}, {create_graph=}")
        for pair in self.all:
            for _, _, seen in pair.hooks:
                seen.clear()
        with refused(must, may) as outcome:
            if len(outputs) == 1:
                outputs[0].tensor.backward(weights[0], retain_graph=retain, create_graph=create_graph)
            else:
                total = sum((pair.tensor * w).sum() for pair, w in zip(outputs, weights, strict=True))
                total.backward(retain_graph=retain, create_graph=create_graph)
        if outcome.refused:  # on its way the pass may have left gradients
            for pair in self.pairs:
                pair.grad = pair.tensor.grad = None
            return
        for pair in visited:
            pair.freed |= not retain
        found = naive.pull_back([pair.value for pair in outputs], weights, self.factors())
        for pair in self.all:
            self.collect(pair, pair.within(found), 1 + largest_in(found.values()))
        if not create_graph:
            self.check_memory(weights)

    def collect(self, pair, gradient, size):
        """What a backward pass does with a pair's gradient (None: it does not come by): hooks see it, .grad adds it."""
        for _, _, seen in pair.hooks:
            assert len(seen) == (gradient is not None), f"a hook on {pair} was called {len(seen)} times"
        if gradient is not None and pair.hooks:
            _, factor, (seen,) = pair.hooks[-1]
            close(seen, gradient.data / factor, size, f"what the last hook on {pair} saw")
        if gradient is not None and pair.keeps_grad:
            expected = gradient.data if pair.grad is None else pair.grad + gradient.data
            close(pair.tensor.grad, expected, size + np.abs(expected).max(initial=0), f"{pair}.grad")
            pair.grad = pair.tensor.grad.numpy().copy()
            self.kept.append((pair.tensor.grad, pair.grad))

    def check_memory(self, weights):
        """A gradient in `.grad` belongs to its tensor alone: an optimizer may write to it."""
        gradients = {pair: pair.tensor.grad.data for pair in self.pairs if pair.grad is not None}
        others = {f"{pair}": pair.tensor.data for pair in self.pairs} | {
            f"weights {i}": w for i, w in enumerate(weights)
        }
        for i, (pair, gradient) in enumerate(gradients.items()):
            for what, other in [*others.items(), *list(gradients.items())[i + 1 :]]:
                assert not np.shares_memory(gradient, other), f"{pair}.grad shares memory with {what} or its gradient"

    # --- grad and push ---

    @step(2)
    def grad(self):
        create_graph, (outputs, inputs) = self.draw(st.booleans()), self.ends()
        cotangents = [self.direction(pair, create_graph) for pair in outputs]
        self.walk_back(
            outputs, inputs, cotangents, create_graph, self.choose(True, True, False), self.choose(True, False)
        )

    @step(2)
    def push(self):
        create_graph, (outputs, inputs) = self.draw(st.booleans()), self.ends()
        self.walk_forward(outputs, inputs, [self.direction(pair, create_graph) for pair in inputs], create_graph)

    @step()
    def everything(self):
        """The `.grad`s of the latest tensor; all tangents; the gradients of all in the leaves, and of those."""
        outputs = [pair for pair in self.pairs if pair.tracked is not False and not pair.broken]
        settled = [pair for pair in outputs if pair.tracked and pair.order == 0]
        for pair in settled:
            self.keep_gradient(pair)
        self.collect_gradients(settled[-1:])
        leaves = [pair for pair in self.pairs if pair.tracked and not pair.parents]
        self.walk_forward(outputs, leaves, [self.direction(pair) for pair in leaves])
        recorded = self.walk_back(outputs, leaves, [self.direction(pair) for pair in outputs], create_graph=True)
        self.walk_back(recorded, leaves, [self.direction(pair) for pair in recorded])

    def ends(self):
        """(outputs, inputs) of a pass. Half of the time gradients are among the outputs; at times a broken graph."""
        again, broken = self.draw(st.booleans()), self.draw(st.integers(0, 7)) == 0
        outputs = self.some(lambda pair: again and pair.order and pair.broken == broken)
        outputs += self.some(lambda pair: pair.tracked is not False and pair.broken == broken)
        inner = is_settled(outputs)  # the gradient in a tensor between two others is settled by the user's graph alone
        inputs = [pair for pair in self.pairs if pair.tracked and pair.order == 0 and (inner or not pair.parents)]
        related = ancestors(outputs) if self.draw(st.integers(0, 3)) else inputs
        return outputs, self.some(lambda pair: pair in inputs and pair in related, unique=True)

    def direction(self, pair, create_graph=False):
        """A random direction; where a graph is made of it, perhaps a tensor of the pool.

        No leaf, and no view of one: a gradient may be a view of the cotangent, and a leaf may be overwritten.
        """
        if create_graph and self.draw(st.booleans()):
            other = self.one(lambda other: other.shape == pair.shape and (other.memory_of or other).parents)
            if other:
                return Direction(other.tensor, other.value, other)
        numbers = self.numbers(pair.shape)
        return Direction(numbers, Value(numbers), None)

    def walk_back(self, outputs, inputs, cotangents, create_graph=False, retain=True, hidden=False):
        """`autograd.grad`; gradients that have a graph join the pool, and are returned."""
        if not (outputs and inputs):
            return []
        if not (settled := is_settled(outputs)):
            self.remove_all_hooks()
        visited = between(inputs, outputs)
        must = settled and any(pair.freed for pair in visited)
        may = any(pair.stale for pair in visited) or (not settled and any(pair.broken for pair in outputs))
        retain = retain or must or may or not settled
        create_graph = create_graph and may_go_on(outputs)
        helpers = [cotangent.pair for cotangent in cotangents if cotangent.pair]
        note(f"grad of {outputs} in {inputs}, cotangents {helpers}, {retain=}, {create_graph=}")
        recorded = [i for i, pair in enumerate(outputs) if pair.tensor.requires_grad]
        gradients = [None] * len(inputs)
        with refused(must, may) as outcome, mg.no_grad() if hidden else nullcontext():
            if recorded:
                gradients = autograd.grad(
                    [outputs[i].tensor for i in recorded],
                    [pair.tensor for pair in inputs],
                    [cotangents[i].given for i in recorded],
                    retain_graph=retain,
                    create_graph=create_graph,
                    allow_unused=True,
                )
        if outcome.refused:
            return []
        for pair in visited:
            pair.freed |= not retain
        found = naive.pull_back([pair.value for pair in outputs], [c.value for c in cotangents], self.factors())
        expected = [pair.within(found) for pair in inputs]
        largest = largest_in(found.values())
        return self.take("gradient", inputs, gradients, expected, largest, outputs, helpers, create_graph)

    def walk_forward(self, outputs, inputs, tangents, create_graph=False):
        """`push`; tangents that have a graph join the pool, and are returned."""
        if not (outputs and inputs):
            return []
        settled, visited = is_settled(outputs), between(inputs, outputs)
        must = settled and any(pair.freed for pair in visited - set(inputs))
        may = any(pair.stale for pair in visited) or (not settled and any(pair.broken for pair in outputs))
        may = may or any(pair.freed for pair in inputs if pair in visited)  # ops inside one of our steps
        create_graph = create_graph and may_go_on(outputs)
        helpers = [tangent.pair for tangent in tangents if tangent.pair]
        note(f"push to {outputs} from {inputs}, tangents {helpers}, {create_graph=}")
        with refused(must, may) as outcome:
            tensors = [pair.tensor for pair in outputs], [pair.tensor for pair in inputs]
            pushed = mg.push(*tensors, [tangent.given for tangent in tangents], create_graph=create_graph)
        if outcome.refused:
            return []
        moving = [(value, t.value) for pair, t in zip(inputs, tangents, strict=True) for value in pair.versions]
        found = naive.push_forward([pair.value for pair in outputs], *zip(*moving, strict=True))
        expected = [found.get(pair.value) for pair in outputs]
        largest = largest_in(found.values())
        return self.take("tangent", outputs, pushed, expected, largest, outputs, helpers, create_graph)

    def take(self, what, pairs, results, expected, largest, outputs, helpers, create_graph):
        """Compare what a pass gave for these pairs; results that have a graph join the pool, and are returned."""
        joined, sources = [], [*outputs, *helpers]
        order = 1 + max(source.order for source in sources)
        for pair, result, value in zip(pairs, results, expected, strict=True):
            if is_settled(outputs):
                assert (result is None) == (value is None), f"the {what} of {pair} is {result}, not {value}"
            if result is not None or value is not None:
                close(result, np.zeros(pair.shape) if value is None else value.data, 1 + largest, f"{what} of {pair}")
            if result is not None and not create_graph:
                assert not result.requires_grad, f"the {what} of {pair} was recorded"
            known = any(result is other.tensor for other in self.all)  # a cotangent that arrived as it was
            if result is not None and value is not None and create_graph and not known:
                how = f"{what} of {pair}"
                joined.append(self.add(how, result, value, sources, 1 + largest, tracked=None, order=order))
        return joined

    # --- leaves overwritten ---

    @step(3)
    def overwrite(self):
        """copy_: graphs that need the old values are refused from now on, or right all the same."""
        pair = self.one(lambda pair: not pair.parents and pair.order == 0)
        views = [other for other in self.all if pair and other.memory_of is pair]
        if pair is None:
            return
        new = self.numbers(pair.shape)
        note(f"{pair} overwritten")
        pair.tensor.copy_(new)
        pair.before, pair.memory_of, pair.value = new.copy(), None, Value(new, tracked=pair.tracked)
        pair.versions.append(pair.value)
        if not pair.tracked:  # it was given a new array, and the old one is as it was
            return
        for view in views:
            if view in self.pairs:
                self.drop(view)
        users = [other for other in self.all if other.needs_values and set(other.parents) & {pair, *views}]
        leaves = [other for other in self.pairs if other.tracked and not other.parents]
        for user in users:
            user.stale = True
            if user in self.pairs and user.tracked is not False:
                self.walk_back([user], leaves, [self.direction(user)])

    # --- one step after the other ---

    @rule(data=st.data(), random=seeds(), name=st.sampled_from(STEPS))
    def go_on(self, data, random, name):
        """A step. (One rule: of many hypothesis would leave out half in each run, and the graphs would be poor.)"""
        self.draw, self.random, self.sound = data.draw, random, False
        getattr(self, name)()

    @invariant()
    def nothing_is_where_it_should_not_be(self):
        for pair in self.pairs:
            gradient = pair.tensor.grad
            assert np.array_equal(pair.tensor.data, pair.before), f"{pair} changed"
            assert (gradient is None) == (pair.grad is None), f"{pair}.grad is {gradient}, expected {pair.grad}"
            assert gradient is None or np.array_equal(gradient.data, pair.grad), f"{pair}.grad changed"
        for gradient, before in self.kept[-10:]:
            assert np.array_equal(gradient.data, before), "a gradient that somebody kept changed"
        self.sound = True

    def teardown(self):
        if self.sound:
            self.everything()
