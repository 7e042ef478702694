"""Mistakes with minigrad.nn are answered with what was given, what was expected and what to do.

The table below has one entry for each mistake: how it is made, the error it meets and the words that help.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support.nn_makers import normal, tensor

LABELLED = mg.tensor(normal(3, 4), dtype=np.float32)


class Forgetful(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(1, 1)


class ForgetfulButFunctional(nn.Module):
    def __init__(self):
        self.size = 3


class Shadowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.modules = nn.ModuleList()


def assigned(name, value):
    layer = nn.Linear(1, 1)
    setattr(layer, name, value)


def loss_of(loss, x, target):
    return lambda: loss(mg.as_tensor(x), target)


MISTAKES = {
    "super().__init__() forgotten": (Forgetful, AttributeError, "super.*__init__.*Forgetful"),
    "and noticed on a walk": (lambda: list(ForgetfulButFunctional().parameters()), AttributeError, "super.*first"),
    "a name that hides a method": (Shadowing, AttributeError, "'modules' of its own"),
    "a plain tensor for a parameter": (lambda: assigned("weight", mg.ones(1, 1)), TypeError, r"Parameter\(tensor\)"),
    "an array for a parameter": (lambda: assigned("weight", np.ones((1, 1))), TypeError, "Linear.weight.*ndarray"),
    "a dotted name": (lambda: nn.Module().register_buffer("a.b", mg.ones(1)), ValueError, "'a.b'.*without dots"),
    "an array as buffer": (lambda: nn.Module().register_buffer("a", np.ones(1)), TypeError, "ndarray.*mg.tensor"),
    "an attribute that is not there": (lambda: nn.Linear(1, 1).wieght, AttributeError, "'Linear'.*'wieght'"),
    "no forward": (lambda: nn.Module()(1), NotImplementedError, "no forward"),
    "an integer parameter": (lambda: nn.Parameter([1, 2]), TypeError, "int64"),
    "train with a number": (lambda: nn.ReLU().train(1), ValueError, "True or False"),
    "a class for a layer": (lambda: nn.Sequential(nn.ReLU), TypeError, r"class ReLU.*ReLU\(\)"),
    "a list for a layer": (lambda: nn.Sequential([nn.ReLU()]), TypeError, "entry 0.*list.*unpack"),
    "no such layer": (lambda: nn.Sequential(nn.ReLU())[3], IndexError, "no module 3; it holds 1"),
    "state of no array": (lambda: nn.Linear(1, 1).load_state_dict({"weight": "x"}), TypeError, "'weight'"),
    "features that do not fit": (lambda: nn.Linear(3, 2)(mg.ones(4, 5)), mg.ShapeError, r"\(4, 5\).*size 3"),
    "doubles for floats": (lambda: nn.Linear(3, 2)(tensor(normal(1, 3))), TypeError, "float64.*float32.*astype"),
    "bytes as images": (lambda: nn.Conv2d(1, 1, 1)(mg.zeros(1, 1, 2, 2, dtype="u1")), TypeError, "uint8.*astype"),
    "a list as input": (lambda: nn.Linear(1, 1)([1.0]), TypeError, "list.*tensor"),
    "no features": (lambda: nn.Linear(0, 1), ValueError, "in_features=0"),
    "other channels": (lambda: nn.Conv2d(3, 4, 3)(mg.ones(1, 1, 8, 8)), mg.ShapeError, r"\(N, 3, H, W\).*3 channels"),
    "a kernel larger than the image": (lambda: nn.Conv2d(1, 1, 5)(mg.ones(1, 1, 4, 9)), mg.ShapeError, "larger"),
    "a window larger than the image": (lambda: nn.MaxPool2d(3)(mg.ones(1, 1, 2, 9)), mg.ShapeError, "larger"),
    "groups that do not divide": (lambda: nn.Conv2d(3, 4, 1, groups=2), ValueError, "in_channels=3.*groups=2"),
    "a kernel of three sides": (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ValueError, "kernel_size=.*or 2 of them"),
    "a negative padding": (lambda: nn.Conv1d(1, 1, 3, padding=-1), ValueError, "padding=-1"),
    "strided same": (lambda: nn.Conv2d(1, 1, 3, 2, padding="same"), ValueError, "stride 1"),
    "padding by a word": (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError, "'full'.*'same'"),
    "a padding mode": (lambda: nn.Conv2d(1, 1, 3, padding_mode="mirror"), ValueError, "'mirror'.*reflect"),
    "a transposed padding mode": (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), ValueError, "zeros"),
    "a flat image for batch-norm": (lambda: nn.BatchNorm2d(3)(mg.ones(2, 3)), mg.ShapeError, r"\(N, 3, H, W\)"),
    "a batch of one": (lambda: nn.BatchNorm1d(3)(mg.ones(1, 3)), mg.ShapeError, "single value.*eval"),
    "a momentum of two": (lambda: nn.BatchNorm1d(3, momentum=2), ValueError, "momentum=2"),
    "a momentum of two in the function": (
        lambda: nn.functional.batch_norm(mg.ones(3, 2), mg.zeros(2), mg.ones(2), training=True, momentum=2.0),
        ValueError,
        "momentum=2.*from 0 to 1",
    ),
    "dropping twice": (lambda: nn.Dropout(1.5), ValueError, "p=1.5"),
    "no such row": (lambda: nn.Embedding(3, 2)(mg.tensor([0, 3])), IndexError, "3.*0 to 2"),
    "a fractional row": (lambda: nn.Embedding(3, 2)(mg.tensor([0.5])), TypeError, "float32"),
    "no such padding row": (lambda: nn.Embedding(3, 2, 3), ValueError, "padding_idx=3"),
    "a vector flattened": (lambda: nn.Flatten()(mg.ones(3)), mg.ShapeError, "batch axis missing"),
    "softmax over nothing": (lambda: nn.Softmax(None), TypeError, "dim=1"),
    "gelu by another name": (lambda: nn.GELU("erf"), ValueError, "'erf'.*'tanh'"),
    "a label too large": (
        loss_of(nn.CrossEntropyLoss(), LABELLED, [0, 4, 1]),
        IndexError,
        "label 4.*4 classes.*0 to 3",
    ),
    "a label below zero": (loss_of(nn.CrossEntropyLoss(), LABELLED, [0, -1, 1]), IndexError, "label -1.*0 to 3"),
    "a wrong beside an ignored label": (loss_of(nn.NLLLoss(), LABELLED, [0, -100, 7]), IndexError, "label 7"),
    "no margin to such a label": (loss_of(nn.MultiMarginLoss(), LABELLED, [0, -100, 1]), IndexError, "label -100"),
    "labels of floats": (loss_of(nn.CrossEntropyLoss(), LABELLED, [0.0, 1.0, 2.0]), TypeError, "float32.*int64"),
    "labels of bools": (loss_of(nn.NLLLoss(), LABELLED, [True, False, True]), TypeError, "bool.*integers"),
    "one-hot labels": (loss_of(nn.CrossEntropyLoss(), LABELLED, np.eye(3, 4, dtype=int)), ValueError, "argmax"),
    "too few labels": (loss_of(nn.CrossEntropyLoss(), LABELLED, [0, 1]), mg.ShapeError, r"\(3, 4\).*\(2,\)"),
    "an empty batch": (
        loss_of(nn.CrossEntropyLoss(), mg.zeros(0, 4), np.zeros(0, int)),
        ValueError,
        "empty batch",
    ),
    "an empty batch of numbers": (loss_of(nn.MSELoss(), mg.zeros(0, 4), mg.zeros(0, 4)), ValueError, "empty batch"),
    "everything ignored": (loss_of(nn.CrossEntropyLoss(), LABELLED, [-100] * 3), ValueError, "every label is ignored"),
    "weights of other classes": (
        loss_of(nn.CrossEntropyLoss([1.0, 2.0]), LABELLED, [0, 1, 2]),
        mg.ShapeError,
        r"\(2,\).*\(4,\)",
    ),
    "ignoring a probability": (
        loss_of(nn.CrossEntropyLoss(ignore_index=1), LABELLED, mg.ones(3, 4)),
        ValueError,
        "ignore_index=1",
    ),
    "smoothing by two": (lambda: nn.CrossEntropyLoss(label_smoothing=2.0), ValueError, "label_smoothing=2.0"),
    "a reduction": (lambda: nn.MSELoss(reduction="average"), ValueError, "'average'.*'mean', 'sum' or 'none'"),
    "scores for probabilities": (
        loss_of(nn.BCELoss(), mg.tensor([0.5, 1.5]), mg.ones(2)),
        ValueError,
        "1.5.*between 0 and 1.*logits",
    ),
    "a target of two": (loss_of(nn.BCELoss(), mg.tensor([0.5]), mg.tensor([2.0])), ValueError, "target.*2"),
    "not a number": (loss_of(nn.BCELoss(), mg.tensor([float("nan")]), mg.ones(1)), ValueError, "nan"),
    "a column against a row": (loss_of(nn.MSELoss(), mg.ones(3, 1), mg.ones(3)), mg.ShapeError, r"\(3, 1\).*squeeze"),
    "a weight that does not fit": (
        loss_of(nn.BCEWithLogitsLoss([1.0, 2.0]), mg.ones(3), mg.ones(3)),
        mg.ShapeError,
        r"\(2,\).*\(3,\)",
    ),
    "a cube for the hinge": (loss_of(nn.MultiMarginLoss(), LABELLED, [0, 1]), mg.ShapeError, r"\(3, 4\)"),
    "a hinge to the third": (lambda: nn.MultiMarginLoss(p=3), ValueError, "p=3.*1 or 2"),
    "no delta": (lambda: nn.HuberLoss(delta=0), ValueError, "delta=0"),
    "a gain of swish": (lambda: nn.init.calculate_gain("swish"), ValueError, "'swish'.*leaky_relu"),
    "a fan of a vector": (lambda: nn.init.xavier_normal_(mg.zeros(3)), mg.ShapeError, r"\(3,\).*\(out, in\)"),
    "a fan of a third kind": (lambda: nn.init.kaiming_normal_(mg.zeros(3, 3), mode="fan"), ValueError, "'fan_in'"),
    "an interval far out": (lambda: nn.init.trunc_normal_(mg.zeros(3), 0, 1, 8, 9), ValueError, "uniform_"),
    "uniform backwards": (lambda: nn.init.uniform_(mg.zeros(3), 1, 0), ValueError, "a=1.*b=0"),
    "a spread below zero": (lambda: nn.init.normal_(mg.zeros(3), 0, -1), ValueError, "std=-1"),
    "an image for LeNet": (lambda: nn.lenet5(image_size=64), ValueError, "64.*8, 28, 32.*cnn"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_was_given_and_what_to_do(mistake):
    call, kind, words = MISTAKES[mistake]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()
