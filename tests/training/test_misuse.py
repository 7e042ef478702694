"""What `fit` and `evaluate` are given by mistake: refused before anything is trained, with what to do."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import ArrayDataset, Subset
from minigrad.nn.functional import mse_loss
from minigrad.training import EarlyStopping, evaluate, fit

DATA = ArrayDataset(np.ones((8, 2), "f4"), np.zeros((8, 1), "f4"))
BATCH = (mg.ones(4, 2), mg.zeros(4, 1))


def run(**change):
    model = nn.Linear(2, 1)
    parts = {"model": model, "loss": mse_loss, "optimizer": optim.SGD(model.parameters(), lr=0.1)}
    parts |= {"train_loader": [BATCH], "epochs": 1, "progress": False}
    return fit(**{**parts, **change})


def test_the_optimizer_of_another_model_is_refused_and_one_of_some_parameters_is_not():
    other = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"2 parameters, none of which is one of the model's 2.*of this model"):
        run(optimizer=optim.SGD(other.parameters(), lr=0.1))
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    run(model=model, optimizer=optim.SGD(model[1].parameters(), lr=0.1))
    extra = mg.zeros(1, requires_grad=True)
    run(model=model, optimizer=optim.SGD([extra, *model.parameters()], lr=0.1))


class Single:
    """A data set of single samples, as many write it."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i >= 4:
            raise IndexError
        return np.ones(2, "f4"), 1


@pytest.mark.parametrize("dataset", [DATA, Subset(DATA, [0, 1]), Single()])
@pytest.mark.parametrize("call", ["fit", "validation", "evaluate"])
def test_a_data_set_without_a_loader_is_refused(dataset, call):
    with pytest.raises(TypeError, match=r"a data set of single samples.*DataLoader\(dataset, batch_size=64"):
        if call == "evaluate":
            evaluate(nn.Linear(2, 1), dataset, mse_loss)
        else:
            run(**{"train_loader" if call == "fit" else "validation": dataset})


@pytest.mark.parametrize(
    ("loader", "kind", "words"),
    [
        (None, TypeError, "expected a DataLoader"),
        (3, TypeError, "expected a DataLoader"),
        ([], ValueError, "gave no batches"),
        ([mg.ones(4, 2)], ValueError, r"expected batches of \(inputs, targets\), got a Tensor"),
        ([(mg.ones(4, 2),)], ValueError, "got 1 fields"),
        ([(*BATCH, mg.ones(4))], ValueError, "got 3 fields"),
        ([{"x": 1, "y": 2}], ValueError, "got a dict"),
        ([(mg.ones(4, 2), 3)], TypeError, "the targets of a batch are a int"),
        ([([1.0, 2.0], mg.ones(1))], TypeError, "the inputs of a batch are a list"),
    ],
)
def test_loaders_and_batches_of_another_form_are_named(loader, kind, words):
    with pytest.raises(kind, match=words):
        run(train_loader=loader)


def test_a_generator_is_used_up_after_an_epoch():
    with pytest.raises(ValueError, match="gone through once only"):
        run(train_loader=(batch for batch in [BATCH]), epochs=2)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_losses_that_are_no_single_tensor_are_named(micro_batches):
    with pytest.raises(mg.ShapeError, match=r"the loss has shape \(.*, 1\); expected a single number"):
        run(loss=lambda o, t: (o - t) ** 2, micro_batches=micro_batches)
    with pytest.raises(TypeError, match=r"gave a float; expected a Tensor"):
        run(loss=lambda o, t: mse_loss(o, t).item(), micro_batches=micro_batches)
    with pytest.raises(TypeError, match="the loss is a NoneType"):
        run(loss=None)
    with pytest.raises(TypeError, match="the optimizer is a list"):
        run(optimizer=[])


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_loss_without_a_reduction_is_told_of_the_loss(micro_batches):
    with pytest.raises(mg.ShapeError, match=r"fit: the loss has shape .*; expected a single number") as caught:
        run(loss=nn.MSELoss(reduction="none"), micro_batches=micro_batches)
    assert "micro_batches" not in str(caught.value)


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_loss_of_ones_own_may_have_reductions_of_its_own(micro_batches):
    class Loss:
        reduction = "batchmean"

        def __call__(self, output, target):
            return ((output - target) ** 2).sum() / len(output)

    run(loss=Loss(), micro_batches=micro_batches)


@pytest.mark.parametrize("value", [0, -1, 2.5, math.nan, "3", True])
@pytest.mark.parametrize("name", ["epochs", "patience", "micro_batches"])
def test_counts_that_are_none_are_refused(name, value):
    with pytest.raises(ValueError, match=f"fit: {name}="):
        run(**{name: value})


@pytest.mark.parametrize(
    "options",
    [
        *({"patience": p} for p in (0, -1, 2.5, math.nan, "3", True)),
        *({"min_delta": d} for d in (-1, math.nan, math.inf, "1", None, True)),
        {"mode": "up"},
        {"mode": None},
    ],
)
def test_options_of_early_stopping_that_make_no_sense_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"EarlyStopping: {name}="):
        EarlyStopping(nn.Linear(1, 1), **options)


@pytest.mark.parametrize(
    "change",
    [
        {"best": math.nan}, {"best": "1"}, {"best": None}, {"since": -1}, {"since": 1.5}, {"since": True},
        {"weights": {}}, {"weights": {"w": mg.ones(1)}}, {"weights": 3}, {"unheard": 1},
    ],
)  # fmt: skip
def test_a_damaged_state_of_early_stopping_is_refused_and_changes_nothing(change):
    stopping = EarlyStopping(nn.Linear(1, 1), patience=3)
    stopping.step(1.0)
    before = stopping.state_dict()
    for state in ({**before, **change}, [1], None):
        with pytest.raises(ValueError, match=r"EarlyStopping\.load_state_dict"):
            stopping.load_state_dict(state)
    assert stopping.state_dict() == before
