"""The mutation check's own tests: it breaks rules, restores them, sees what is caught and says what is not.

The whole check takes some minutes and is run by hand (docs/testing.md); here it breaks one rule of each family.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd.primitive import OPS
from tests.mutation import __main__ as command
from tests.mutation import checks, equivalent
from tests.mutation.checks import Check, first_failure
from tests.mutation.judging import Verdict
from tests.mutation.mutants import mutants
from tests.mutation.sameness import normal
from tests.mutation.units import Unit, syntax, units


def cube_rule(g, x):
    return 3 * g * x * x


def cube_unit():
    return Unit("here.cube_rule", "here", cube_rule, syntax(cube_rule), ["cube"])


@pytest.fixture
def cube(new_op):
    @new_op
    def cube(x):
        return x * x * x

    cube.defvjp(x=cube_rule)
    cube.defjvp(x=cube_rule)
    return cube


def test_one_broken_rule_of_each_family_is_caught():
    script = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, str(script), "--sample"], capture_output=True, text=True, cwd=script.parents[1]
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(r"(\d+) mutants, (\d+) caught, 0 survivors", run.stdout)
    assert found and found[1] == found[2] and int(found[1]) >= 11, run.stdout


def test_every_op_that_has_rules_has_mutants():
    mutated = {op for unit in units().values() for op in unit.ops if mutants(unit)}
    ruled = {
        name
        for name, op in OPS.items()
        if op.forward.__module__.startswith("minigrad.") and (any(op.vjp_rules.values()) or op.fused_vjp)
    }
    assert mutated == ruled


def test_a_check_that_looks_at_derivatives_catches_every_mutant_and_a_blind_one_none(cube):
    x = mg.tensor(np.array([0.5, -1.5, 2.0]), requires_grad=True)
    blind = Check("blind", None, lambda: np.testing.assert_allclose(cube(x).detach().numpy(), x.detach().numpy() ** 3))
    looking = Check("looking", None, lambda: mg.gradcheck(cube, x))
    unit, found = cube_unit(), mutants(cube_unit())
    assert len(found) > 15
    for mutant in found:
        with unit.with_body(mutant.node):
            assert first_failure([blind]) == (None, None)
            assert first_failure([blind, looking])[0] == "looking", f"not caught: {mutant.change}"
    assert first_failure([blind, looking]) == (None, None), "a mutant was not taken out again"


def test_the_errors_that_the_check_promises_are_among_the_mutants():
    changes = {m.change.partition(": ")[2].partition("  ->  ")[2] for m in mutants(cube_unit())}
    assert {
        "return -(3 * g * x * x)",  # sign
        "return 4 * g * x * x",  # factor
        "return 3 * x * x * x",  # swapped argument
        "return 3 * g * x",  # missing term
        "return 3 * g * x / x",  # other op
        "return None",
    } <= changes
    spread = {m.change.partition(": ")[0] for m in mutants(units()["reductions._winners"])}
    assert {"wrong axis", "wrong keepdims", "comparison", "missing op"} <= spread


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x.sum(axis=(-2, -1))", "x.sum(axis=(-1, -2))"),
        ("x[:, ..., None]", "x[..., :, None]"),
        ("x[0:2]", "x[:2]"),
        ("x[-1 + 1:]", "x[:]"),
        ("x.swapaxes(-0, 1)", "x.swapaxes(0, 1)"),
        ("x[:2]", "x[2:]"),
        ("x[-1:]", "x[1:]"),
        ("x[..., None]", "x[None, ...]"),
        ("x.reshape((3, 8))", "x.reshape((8, 3))"),
        ("x.sum(axis=(0, 1))", "x.sum(axis=(0, 2))"),
        ("x - 1 + 1.5", "x - (1 + 1.5)"),
    ],
)
def test_two_spellings_count_once_where_they_mean_the_same_and_only_there(one, other):
    values = [eval(text, {"x": np.arange(24.0).reshape(3, 2, 4)}) for text in (one, other)]
    texts = [normal(ast.parse(text, mode="eval")) for text in (one, other)]
    assert np.array_equal(*values) == (texts[0] == texts[1])


def test_a_survivor_is_printed_and_makes_the_command_fail(capsys):
    caught = Verdict("file.rule", "file", "sign: g  ->  -g", "test_ops::test_x[]", "check")
    survivor = Verdict("file.rule", "file", "factor: g  ->  g * 2", None, None)
    assert command.report([caught], {}) == 0
    assert command.report([caught, survivor], {}) == 1
    assert "SURVIVES: file.rule\n  factor: g  ->  g * 2" in capsys.readouterr().out
    assert command.report([caught, survivor], {("file.rule", survivor.change): "a reason"}) == 0
    assert command.report([caught, survivor], {("file.rule", caught.change): "no reason"}) == 1


def test_an_explanation_of_a_mutant_that_is_not_there_is_an_error():
    there = "# a reason\nhere.cube_rule\n  sign: return 3 * g * x * x  ->  return -(3 * g * x * x)\n"
    chosen = {"here.cube_rule": cube_unit()}
    assert list(equivalent.explanations(chosen, there).values()) == ["a reason"]
    with pytest.raises(ValueError, match="explains mutants that there are not"):
        equivalent.explanations(chosen, there + "  sign: x  ->  y\n")


def test_every_explanation_is_of_a_mutant():
    assert equivalent.explanations(units())


def test_a_mutant_that_hangs_is_caught(monkeypatch):
    monkeypatch.setattr(checks, "SECONDS", 0.1)

    def hang():
        while True:
            pass

    assert first_failure([Check("hangs", None, hang)]) == ("hangs", "time")
