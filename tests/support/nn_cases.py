"""Layers and losses of minigrad.nn, each with arguments and inputs that it takes: tables for the tests that walk them.

LAYERS : (name, arguments, options, shape of the input), as parameters of a test
LOSSES : (name, options, (input, target))
"""

import numpy as np
import pytest


def case(name, *args, x=(2, 3, 9, 8), **options):
    label = f"{name}({', '.join([*map(repr, args), *(f'{k}={v!r}' for k, v in options.items())])}) on {x}"
    return pytest.param(name, args, options, x, id=label)


LAYERS = [
    case("Linear", 5, 4, x=(3, 5)),
    case("Linear", 5, 4, False, x=(3, 5)),
    case("Linear", 5, 4, x=(5,)),
    case("Linear", 5, 4, x=(2, 3, 7, 5)),
    case("Conv1d", 3, 4, 3, x=(2, 3, 11)),
    case("Conv1d", 3, 4, 3, x=(3, 11)),
    case("Conv1d", 4, 6, 3, 2, 1, 2, 2, x=(2, 4, 11)),
    case("Conv1d", 3, 4, 4, padding="same", x=(2, 3, 11)),
    case("Conv1d", 3, 4, 5, padding="same", dilation=2, bias=False, x=(2, 3, 11)),
    case("Conv1d", 3, 4, 3, padding=2, padding_mode="circular", x=(2, 3, 11)),
    case("Conv2d", 3, 4, 3),
    case("Conv2d", 3, 4, 3, x=(3, 9, 8)),
    case("Conv2d", 3, 4, (3, 2), (2, 1), (1, 0)),
    case("Conv2d", 3, 4, 3, 2, 1, 2),
    case("Conv2d", 4, 6, 3, padding=1, groups=2, bias=False, x=(2, 4, 9, 8)),
    case("Conv2d", 4, 4, 3, padding=1, groups=4, x=(2, 4, 9, 8)),
    case("Conv2d", 3, 4, 1, bias=False),
    case("Conv2d", 3, 4, 3, padding="same"),
    case("Conv2d", 3, 4, (4, 3), padding="same", dilation=(1, 2)),
    case("Conv2d", 3, 4, 3, padding="valid"),
    case("Conv2d", 3, 4, 3, padding=(2, 1), padding_mode="reflect"),
    case("Conv2d", 3, 4, 3, padding="same", padding_mode="replicate"),
    case("ConvTranspose2d", 3, 4, 3),
    case("ConvTranspose2d", 3, 4, 3, x=(3, 9, 8)),
    case("ConvTranspose2d", 3, 4, 3, 2, 1, 1),
    case("ConvTranspose2d", 4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, x=(2, 4, 5, 4)),
    case("ConvTranspose2d", 3, 4, 3, 2, dilation=2, output_padding=1, x=(2, 3, 5, 4)),
    case("BatchNorm1d", 5, x=(7, 5)),
    case("BatchNorm1d", 5, x=(4, 5, 3)),
    case("BatchNorm1d", 5, affine=False, x=(7, 5)),
    case("BatchNorm2d", 3),
    case("BatchNorm2d", 3, 1e-2, 0.3),
    case("BatchNorm2d", 3, momentum=None),
    case("BatchNorm2d", 3, momentum=0.0),
    case("BatchNorm2d", 3, affine=False),
    case("BatchNorm2d", 3, track_running_stats=False),
    case("BatchNorm2d", 3, affine=False, track_running_stats=False),
    case("MaxPool2d", 2),
    case("MaxPool2d", 2, x=(3, 9, 8)),
    case("MaxPool2d", 3, 2, 1),
    case("MaxPool2d", (3, 2), (1, 2), (1, 0)),
    case("MaxPool2d", 2, dilation=2, ceil_mode=True, x=(3, 9, 8)),
    case("AvgPool2d", 3, 2, 1, ceil_mode=True, x=(2, 3, 6, 8)),
    case("AvgPool2d", 2, divisor_override=3),
    case("BatchNorm2d", 3, bias=False),
    case("AvgPool2d", 2),
    case("AvgPool2d", 3, 2, 1),
    case("AvgPool2d", 3, 2, 1, count_include_pad=False),
    case("AvgPool2d", (3, 2), stride=(1, 3)),
    case("AdaptiveAvgPool2d", 1),
    case("AdaptiveAvgPool2d", (4, 3)),
    case("AdaptiveAvgPool2d", (None, 5)),
    case("Flatten"),
    case("Flatten", 0, 2),
    case("Flatten", 2),
    case("Identity"),
    case("ReLU"),
    case("ReLU", True),
    case("LeakyReLU"),
    case("LeakyReLU", 0.3),
    case("ELU"),
    case("ELU", 0.7),
    case("GELU"),
    case("GELU", "tanh"),
    case("SiLU"),
    case("Tanh"),
    case("Sigmoid"),
    case("Softplus"),
    case("Softplus", 3.0, 1.5),
    case("Softmax", 1),
    case("Softmax", -1),
    case("LogSoftmax", 1),
    case("Dropout", 0.0),
]


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def batch(scores):
    """Scores and labels of fitting shapes."""
    labels = (scores[0], *scores[2:]) if len(scores) > 1 else ()
    classes = scores[1] if len(scores) > 1 else scores[0]
    x = 3 * numbers(5, *scores)
    return x, np.random.default_rng(8).integers(0, classes, labels)


def smoothed(scores):
    x = 3 * numbers(5, *scores)
    t = np.exp(numbers(6, *scores))
    return x, t / t.sum(axis=1 if len(scores) > 1 else 0, keepdims=True)


def two(*shape, scale=1.5):
    return scale * numbers(7, *shape), numbers(8, *shape)


def chances(*shape):
    random = np.random.default_rng(9)
    return random.random(shape, np.float32), random.random(shape, np.float32)


def with_ends():
    p = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1e-13, 1e-30, 1e-44, 0.3], np.float32)
    t = np.array([0.0, 1.0, 0.25, 0.0, 1.0, 0.25, 0.5, 1.0, 1.0, 0.3], np.float32)
    return p, t


def scores_and_truths(*shape):
    return 30 * numbers(7, *shape), np.random.default_rng(9).random(shape, np.float32).round()


W = np.array([0.2, 1.5, 0.7, 1.0, 2.0], np.float32)

LOSSES = [
    *(
        (name, options, inputs)
        for name in ("CrossEntropyLoss", "NLLLoss")
        for inputs in (batch((4, 5)), batch((5,)), batch((3, 5, 2, 4)), batch((2, 5, 7)))
        for options in ({}, {"weight": W}, {"ignore_index": 2}, {"weight": W, "ignore_index": 2})
    ),
    ("CrossEntropyLoss", {"ignore_index": -100}, (batch((4, 5))[0], np.array([1, -100, 4, -100]))),
    ("NLLLoss", {"ignore_index": 9, "weight": W}, (batch((4, 5))[0], np.array([1, 9, 4, 9]))),
    ("CrossEntropyLoss", {}, (100 * batch((4, 5))[0], np.array([1, 0, 4, 2]))),
    *(
        ("CrossEntropyLoss", {"label_smoothing": 0.1, **options}, inputs)
        for inputs in (batch((4, 5)), batch((3, 5, 2, 4)), smoothed((4, 5)), smoothed((3, 5, 2)), smoothed((5,)))
        for options in ({}, {"weight": W})
    ),
    ("CrossEntropyLoss", {"label_smoothing": 0.3, "weight": W, "ignore_index": 2}, batch((3, 5, 4))),
    ("CrossEntropyLoss", {"label_smoothing": 1.0, "ignore_index": 0}, batch((6, 5))),
    ("CrossEntropyLoss", {}, smoothed((4, 5))),
    ("CrossEntropyLoss", {"weight": W}, smoothed((3, 5, 2, 2))),
    *(
        ("MultiMarginLoss", {"p": p, **options}, batch(shape))
        for p in (1, 2)
        for shape in ((4, 5), (5,))
        for options in ({}, {"margin": 0.3}, {"weight": W})
    ),
    *((name, {}, two(4, 3)) for name in ("MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss")),
    ("MSELoss", {}, two()),
    ("L1Loss", {}, (np.float32([1, 2, 3]), np.float32([1, 2, 4]))),
    ("HuberLoss", {"delta": 0.4}, two(4, 3)),
    ("HuberLoss", {"delta": 1.0}, (np.float32([0, 1, -1, 2]), np.float32([0, 0, 0, 2]))),
    ("SmoothL1Loss", {"beta": 0.4}, two(4, 3)),
    ("SmoothL1Loss", {"beta": 0.0}, two(4, 3)),
    ("BCELoss", {}, chances(4, 3)),
    ("BCELoss", {"weight": numbers(3, 3) ** 2}, chances(4, 3)),
    ("BCELoss", {}, with_ends()),
    ("BCEWithLogitsLoss", {}, scores_and_truths(4, 5)),
    ("BCEWithLogitsLoss", {}, two(4, 5)),
    ("BCEWithLogitsLoss", {"weight": W}, two(4, 5)),
    ("BCEWithLogitsLoss", {"pos_weight": W}, scores_and_truths(4, 5)),
    ("BCEWithLogitsLoss", {"pos_weight": W, "weight": numbers(3, 4, 1) ** 2}, chances(4, 5)),
]


def loss_label(value):
    name, options, (x, t) = value
    return f"{name}({', '.join(options)}) on {x.shape} {t.dtype}{t.shape}"
