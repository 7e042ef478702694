"""Trees: any nesting of tuples, lists, dicts and None falls apart into leaves and comes together again."""

from collections import OrderedDict, defaultdict, namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.transforms.trees import flatten, flatten_like, form, map_leaves, spread_prefix

Point = namedtuple("Point", "x y")

leaves = st.integers(0, 99)
keys = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    leaves | st.none(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
    ),
    max_leaves=8,
)


@given(trees)
def test_a_tree_comes_together_again_from_its_leaves(tree):
    found, rebuild = flatten(tree)
    again = rebuild(found)
    assert again == tree and type(again) is type(tree) and form(again) == form(tree)
    assert form(tree).count("*") == len(found)
    negative = map_leaves(lambda x: -x, tree)
    assert flatten(negative)[0] == [-x for x in found] and form(negative) == form(tree)


@given(trees)
def test_leaves_of_a_like_tree_come_in_the_order_of_the_first(tree):
    def turned(branch):
        """The same tree with every dict's keys in the other order."""
        if isinstance(branch, dict):
            return {key: turned(branch[key]) for key in reversed(branch)}
        if isinstance(branch, Point):
            return Point(*map(turned, branch))
        return type(branch)(map(turned, branch)) if isinstance(branch, (list, tuple)) else branch

    assert flatten_like(tree, turned(tree), "it") == flatten(tree)[0]
    assert flatten(map_leaves(lambda x, y: (x == y) + 5, tree, turned(tree)))[0] == [6] * len(flatten(tree)[0])


@given(trees, trees)
def test_trees_of_another_form_are_refused_with_both_forms_shown(tree, other):
    def shape(branch):
        if isinstance(branch, dict):
            return frozenset((key, shape(value)) for key, value in branch.items())
        if isinstance(branch, (list, tuple)):
            return (isinstance(branch, list), *map(shape, branch))
        return branch is None

    if shape(tree) == shape(other):
        assert len(flatten_like(tree, other, "it")) == len(flatten(tree)[0])
    else:
        with pytest.raises(TypeError) as caught:
            flatten_like(tree, other, "the tangent")
        assert form(tree) in str(caught.value) and form(other) in str(caught.value)


def test_a_dict_keeps_its_kind_and_its_order():
    counts = defaultdict(lambda: 7, b=1, a=2)
    again = map_leaves(lambda x: 10 * x, counts)
    assert list(again.items()) == [("b", 10), ("a", 20)] and again["new"] == 7
    assert list(counts) == ["b", "a"], "the tree given is left alone"


def test_the_form_of_a_tree_shows_its_leaves_as_stars():
    assert form({"w": (1, [2, None]), "b": ()}) == "{'w': (*, [*, None]), 'b': ()}"


@given(trees)
def test_a_single_entry_is_a_prefix_of_every_tree(tree):
    assert spread_prefix(3, tree, "axes") == [3] * len(flatten(tree)[0])
    assert spread_prefix(None, tree, "axes") == [None] * len(flatten(tree)[0])


@given(trees)
def test_a_tree_is_a_prefix_of_itself_and_a_dicts_keys_may_come_in_any_order(tree):
    assert spread_prefix(tree, tree, "axes") == flatten(tree)[0]
    assert spread_prefix({"b": 1, "a": 2}, {"a": tree, "b": tree}, "axes") == [
        *[2] * len(flatten(tree)[0]),
        *[1] * len(flatten(tree)[0]),
    ]


@pytest.mark.parametrize(
    ("prefix", "tree", "words"),
    [
        ((0,), (1, 2), "1 entries for 2 values"),
        ({"a": 0}, {"b": 1}, r"keys \['a'\] for a dict of \['b'\]"),
        ((0, 1), 5, r"\(0, 1\) is deeper than the value it is for, \*"),
        ({"a": 0}, (1,), "deeper"),
        ((0, (1, 2)), (5, {"a": 1}), "deeper"),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused(prefix, tree, words):
    with pytest.raises(ValueError, match=f"in_axes.*{words}"):
        spread_prefix(prefix, tree, "in_axes")


@pytest.mark.parametrize("wrap", [lambda t: [t], lambda t: (t, 1), lambda t: {"a": t}])
def test_a_tree_may_be_a_hundred_levels_deep_and_no_deeper(wrap):
    tree = 1
    for _ in range(100):
        tree = wrap(tree)
    assert flatten(tree)[0][0] == 1 and flatten_like(tree, tree, "it")
    for _ in range(100_000):
        tree = wrap(tree)
    for refused in (lambda: flatten(tree), lambda: spread_prefix(tree, (1,), "in_axes"), lambda: map_leaves(abs, tree)):
        with pytest.raises(ValueError, match=r"more than 100 levels deep|deeper than|has 2 entries|keys"):
            refused()
    assert "..." in form(tree)
    while isinstance(tree, (list, tuple)):  # Python would free it by recursion
        tree = tree[0]
