"""What is wrong in the use of LBFGS, BFGS, Newton, GaussNewton and LevenbergMarquardt is told, and changes nothing."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minigrad as mg
from minigrad import optim
from minigrad.optim import BFGS, LBFGS, GaussNewton, LevenbergMarquardt, Newton
from tests.support.closure_models import Curve, curve_for, every_kind, make


def a_parameter():
    return mg.tensor(np.ones(3), requires_grad=True)


@pytest.mark.parametrize(
    ("make_optimizer", "error", "words"),
    [
        (lambda: LBFGS([{"params": [a_parameter()]}, {"params": [a_parameter()]}]), ValueError, "one parameter group"),
        (
            lambda: LBFGS([a_parameter()]).add_param_group({"params": [a_parameter()]}),
            ValueError,
            "one parameter group",
        ),
        (lambda: LBFGS([]), ValueError, "empty list of parameters"),
        (lambda: LBFGS([a_parameter()], lr=-1), ValueError, "lr=-1"),
        (lambda: LBFGS([a_parameter()], max_iter=0), ValueError, "max_iter=0; expected a whole number"),
        (lambda: BFGS([a_parameter()], max_eval=2.5), ValueError, "max_eval=2.5"),
        (lambda: LBFGS([a_parameter()], history_size=0), ValueError, "history_size=0"),
        (lambda: LBFGS([a_parameter()], line_search_fn="golden"), ValueError, "golden.*strong wolfe"),
        (lambda: Newton([a_parameter()], step_rule="golden"), ValueError, "golden"),
        (lambda: Newton([a_parameter()], alpha=1.0), ValueError, "alpha=1.0 is for steps by a line search"),
        (lambda: Newton([a_parameter()], matrix_free="yes"), ValueError, "matrix_free='yes'.*None, True, False"),
        (lambda: LevenbergMarquardt([a_parameter()], method="dogleg"), ValueError, "'lm', 'levenberg', 'marquardt'"),
        (lambda: LevenbergMarquardt([a_parameter()], ftol=None), TypeError, "ftol must be a number"),
        (lambda: GaussNewton([mg.ones(3)]), TypeError, "takes no gradient"),
    ],
)
def test_wrong_options_are_told(make_optimizer, error, words):
    with pytest.raises(error, match=words):
        make_optimizer()


def backward_of(loss):
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("cls", "closure", "error", "words"),
    [
        (LBFGS, None, TypeError, "needs a closure"),
        (LBFGS, lambda w: None, TypeError, "returned nothing.*return loss"),
        (LBFGS, lambda w: w, ValueError, r"returned shape \(3,\); expected the loss, a single number"),
        (BFGS, lambda w: (w**2).sum().item(), TypeError, "called no backward, so there is no gradient"),
        (LBFGS, lambda w: (w.detach() ** 2).sum(), ValueError, "does not depend on any of the parameters"),
        (LevenbergMarquardt, lambda w: w.detach(), ValueError, "does not depend on any of the parameters"),
        (Newton, lambda w: backward_of((w**2).sum()), RuntimeError, "called backward.*return the loss"),
        (GaussNewton, lambda w: backward_of((w**2).sum()), RuntimeError, "called backward.*return the residuals"),
        (GaussNewton, lambda w: (w**2).sum(), ValueError, "a single number; expected residuals"),
        (LevenbergMarquardt, lambda w: None, TypeError, "expected residuals"),
        (LevenbergMarquardt, lambda w: w > 0, TypeError, "Tensor of bool; expected residuals"),
        (LevenbergMarquardt, lambda w: w[:0], ValueError, "no residuals"),
    ],
)
def test_wrong_closures_are_told_and_change_nothing(cls, closure, error, words):
    w = a_parameter()
    optimizer = cls([w])
    array, node = w.data, w.node
    with pytest.raises(error, match=words):
        optimizer.step(closure if closure is None else lambda: closure(w))
    assert w.data is array and w.node is node and w.grad is None
    assert_array_equal(array, 1)


@every_kind
def test_a_loss_that_is_no_number_at_the_start_is_told_and_changes_nothing(kind):
    model = curve_for(kind)
    model.y = model.y * np.nan
    start = model.values()
    optimizer = make(kind, model.params)
    assert np.isnan(optimizer.step(model.closure(optimizer)).item()) or "Residuals" in optimizer.problem.__name__
    assert not optimizer.result.success and "NaN" in optimizer.result.message
    assert_array_equal(model.values(), start)


def test_a_parameter_frozen_on_the_way_is_told():
    model = Curve()
    optimizer = LBFGS(model.params)
    model.params[2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"parameter 2.*takes no gradient any more"):
        optimizer.step(model.loss)


def test_a_state_that_does_not_fit_is_told_and_changes_nothing():
    model = Curve()
    optimizer = BFGS(model.params, max_iter=3)
    optimizer.step(model.loss)
    state = optimizer.state_dict()
    other = LBFGS([a_parameter()])
    with pytest.raises(ValueError, match="expected what state_dict"):
        other.load_state_dict({"param_groups": []})
    with pytest.raises(ValueError, match=r"4.*parameters, but this optimizer has"):
        BFGS([a_parameter()]).load_state_dict(state)
    with pytest.raises(ValueError, match="lacks history_size"):
        LBFGS(Curve().params).load_state_dict(state)
    state["param_groups"][0]["history_size"] = 10
    twin = LBFGS(Curve().params)
    with pytest.raises(ValueError, match="another optimizer"):
        twin.load_state_dict(state)
    assert twin.param_groups[0]["history_size"] == 100 and twin.param_groups[0]["max_iter"] == 20
    wide = Curve()
    wide.params[0] = mg.tensor(np.ones((9, 1)), requires_grad=True)
    with pytest.raises(ValueError, match=r"shape .* but there are 30 parameters"):
        BFGS(wide.params).load_state_dict(optimizer.state_dict())


def test_it_is_an_optimizer_as_the_others_are():
    model = Curve()
    optimizer = LBFGS(model.params, history_size=7)
    assert isinstance(optimizer, optim.Optimizer)
    assert "LBFGS" in repr(optimizer) and "4 parameters" in repr(optimizer) and "history_size=7" in repr(optimizer)
    model.loss().backward()
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.params)
    assert optimizer.state_dict()["state"] == {} == optimizer.state
