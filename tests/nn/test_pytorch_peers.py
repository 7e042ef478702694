"""minigrad.nn against PyTorch: the same arguments, the same state, the same numbers and gradients.

Layers and losses stand in tables of (name, arguments, input); both libraries are given the same. What is claimed:
names, argument order and defaults agree, a PyTorch state_dict loads, and outputs, losses and all gradients agree to
1e-5 in float32.
"""

import inspect
import re
from collections import OrderedDict

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")


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


def assert_agree(ours, theirs, what):
    """To 1e-5 of the largest number, or of 1."""
    ours, theirs = (t.detach().numpy() for t in (ours, theirs))
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, PyTorch {theirs.shape}"
    scale = max(1.0, np.abs(theirs).max(initial=0))
    off = np.abs(ours - theirs).max(initial=0) / scale
    assert off < 1e-5, f"{what} differs from PyTorch's by {off:.2e} of {scale:.3g}"


def assert_same_gradients(ours, theirs):
    peers = dict(theirs.named_parameters())
    assert list(peers) == [name for name, _ in ours.named_parameters()]
    for name, parameter in ours.named_parameters():
        assert_agree(parameter.grad, peers[name].grad, f"the gradient of {name}")


def assert_same_state(ours, theirs):
    peers = theirs.state_dict()
    assert list(peers) == list(ours.state_dict())
    for name, tensor in ours.state_dict().items():
        assert_agree(tensor, peers[name], f"the state's {name}")


def twins(name, args=(), options=None):
    """Our module and PyTorch's, with PyTorch's (randomly moved) state in both."""
    theirs = getattr(torch.nn, name)(*args, **(options or {}))
    ours = getattr(nn, name)(*args, **(options or {}))
    share_state(ours, theirs)
    return ours, theirs


def repr_of(theirs):
    """PyTorch's repr, without an option that its batch-norm has from 2.13 on."""
    return re.sub(r"(affine=\w+), bias=\w+", r"\1", repr(theirs))


def share_state(ours, theirs):
    state = theirs.state_dict()
    for i, (key, value) in enumerate(state.items()):
        if key.endswith("running_var"):
            value.copy_(torch.from_numpy(numbers(i, *value.shape) ** 2 + 0.5))
        elif value.dtype == torch.float32 and value.ndim == 1:
            value.copy_(torch.from_numpy(numbers(i, *value.shape) * 0.3 + 0.5))
    ours.load_state_dict({key: value.numpy() for key, value in state.items()})


def run_both(ours, theirs, x, cotangent_seed=1):
    mine, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(mine), theirs(peer.clone())  # a clone: some of PyTorch's layers overwrite their input
    assert_agree(y, z, "the output")
    cotangent = numbers(cotangent_seed, *y.shape)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    assert_agree(mine.grad, peer.grad, "the gradient of the input")


@pytest.mark.parametrize("name, args, options, shape", LAYERS)
def test_a_layer_is_pytorchs_in_training_and_in_evaluation(name, args, options, shape):
    ours, theirs = twins(name, args, options)
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        ours.zero_grad(), theirs.zero_grad()
        run_both(ours, theirs, numbers(mode, *shape))
        assert_same_gradients(ours, theirs)
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("name, args, options, shape", LAYERS)
def test_a_layer_is_shown_as_pytorch_shows_it(name, args, options, shape):
    ours, theirs = twins(name, args, options)
    assert repr(ours) == repr_of(theirs)


@pytest.mark.parametrize("padding_idx", [None, 0, 2, -1])
def test_an_embedding_is_pytorchs_and_its_padding_row_learns_nothing(padding_idx):
    ours, theirs = twins("Embedding", (6, 3), {"padding_idx": padding_idx})
    assert repr(ours) == repr(theirs)
    indices = np.array([[0, 2, 5], [5, 5, 1]])
    y, z = ours(mg.tensor(indices)), theirs(torch.tensor(indices))
    assert_agree(y, z, "the output")
    cotangent = numbers(0, 2, 3, 3)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    assert_same_gradients(ours, theirs)


# --- losses ---


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


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", LOSSES, ids=map(loss_label, LOSSES))
def test_a_loss_and_its_gradient_are_pytorchs(loss, reduction):
    name, options, (x, t) = loss
    arrays = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    theirs = getattr(torch.nn, name)(reduction=reduction, **arrays)
    ours = getattr(nn, name)(reduction=reduction, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    mine, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(mine, mg.tensor(t)), theirs(peer, torch.tensor(t))
    assert y.dtype == np.float32
    assert_agree(y, z, "the loss")
    cotangent = numbers(4, *y.shape)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    # element by element: the ends of BCELoss have gradients of 1e12 beside those of size 1
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "BCELoss", "BCEWithLogitsLoss", "MSELoss", "HuberLoss"])
def test_the_gradient_of_a_target_of_floats_is_pytorchs(name):
    x, t = smoothed((4, 5)) if name == "CrossEntropyLoss" else chances(4, 5)
    mine, peer = mg.tensor(t, requires_grad=True), torch.tensor(t, requires_grad=True)
    getattr(nn, name)()(mg.tensor(x), mine).backward()
    getattr(torch.nn, name)()(torch.tensor(x), peer).backward()
    assert_agree(mine.grad, peer.grad, "the gradient of the target")


# --- signatures ---

CLASSES = sorted({c.values[0] for c in LAYERS} | {name for name, _, _ in LOSSES} | {"Embedding", "Sequential"})
OURS_IS_STRICTER = {("Softmax", "dim"), ("LogSoftmax", "dim")}  # PyTorch's guess for None is deprecated there


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_have_pytorchs_names_order_and_defaults(name):
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters
    ours = inspect.signature(getattr(nn, name).__init__).parameters
    by_position = [p for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if name not in ("Identity", "Sequential"):
        assert [p.name for p in by_position] == list(theirs)[: len(by_position)], "positional arguments"
    for p in ours.values():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and (name, p.name) not in OURS_IS_STRICTER:
            assert p.name in theirs, f"{p.name} is no argument of PyTorch's {name}"
            assert p.default == theirs[p.name].default, f"the default of {p.name}"


LOSS_FUNCTIONS = [name for name in nn.functional.__all__ if "loss" in name or "entropy" in name]


@pytest.mark.parametrize("name", [*LOSS_FUNCTIONS, "batch_norm", "softplus", "dropout"])
def test_functions_take_pytorchs_arguments_in_its_order_with_its_defaults(name):
    theirs = list(FUNCTION_SIGNATURES.get(name) or signature_of(getattr(torch.nn.functional, name)))
    ours = list(inspect.signature(getattr(nn.functional, name)).parameters.values())
    by_position = [p.name for p in ours[1:] if p.kind is p.POSITIONAL_OR_KEYWORD]  # the first is sometimes called x
    assert by_position == [p.name for p in theirs][1 : len(by_position) + 1]
    defaults = {p.name: p.default for p in theirs}
    for p in ours[1:]:
        assert p.name in defaults and p.default == defaults[p.name], p.name


def signature_of(function):
    return inspect.signature(function).parameters.values()


# PyTorch's softplus is built in, without a signature to look at; this is the one of its documentation.
FUNCTION_SIGNATURES = {"softplus": list(signature_of(lambda input, beta=1, threshold=20: None))}


# --- initialisation ---

INITIALISERS = [
    ("uniform_", {"a": -1.0, "b": 3.0}),
    ("normal_", {"mean": 2.0, "std": 0.5}),
    ("trunc_normal_", {}),
    ("trunc_normal_", {"mean": 1.0, "std": 2.0, "a": 0.0, "b": 1.5}),
    ("xavier_uniform_", {}),
    ("xavier_uniform_", {"gain": 2.0}),
    ("xavier_normal_", {"gain": 0.5}),
    ("kaiming_uniform_", {}),
    ("kaiming_uniform_", {"a": 5**0.5}),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ("kaiming_normal_", {"a": 0.2, "mode": "fan_out"}),
    ("orthogonal_", {"gain": 1.5}),
    ("constant_", {"val": 0.3}),
    ("zeros_", {}),
    ("ones_", {}),
]


def quantiles(values):
    return np.quantile(values, [0.001, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999])


@pytest.mark.parametrize("shape", [(200, 300), (64, 32, 5, 5)], ids=str)
@pytest.mark.parametrize("name, options", INITIALISERS, ids=lambda v: str(v))
def test_an_initialiser_has_pytorchs_distribution(name, options, shape):
    mg.manual_seed(0)
    torch.manual_seed(0)
    ours = getattr(nn.init, name)(mg.zeros(shape), **options).numpy()
    theirs = getattr(torch.nn.init, name)(torch.zeros(shape), **options).numpy()
    spread = theirs.std() or 1e-7
    # 50,000 draws: the outer quantiles scatter by a tenth of the spread, the inner by a hundredth
    np.testing.assert_array_less(
        np.abs(quantiles(ours) - quantiles(theirs)), spread * np.array([0.25, 0.04, 0.03, 0.03, 0.03, 0.04, 0.25])
    )


@pytest.mark.parametrize("nonlinearity", nn.init.GAINS)
def test_gains_are_pytorchs(nonlinearity):
    for slope in (None, 0.3) if nonlinearity == "leaky_relu" else (None,):
        assert nn.init.calculate_gain(nonlinearity, slope) == pytest.approx(
            torch.nn.init.calculate_gain(nonlinearity, slope)
        )


@pytest.mark.parametrize(
    "name, args",
    [("Linear", (300, 200)), ("Conv1d", (40, 30, 9)), ("Conv2d", (20, 30, 5)), ("Conv2d", (40, 30, 5, 1, 0, 1, 2))]
    + [("ConvTranspose2d", (20, 30, 5)), ("Embedding", (300, 200)), ("BatchNorm2d", (50,))],
    ids=str,
)
def test_a_new_layer_starts_from_pytorchs_distribution(name, args):
    mg.manual_seed(0)
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args).state_dict()
    for key, tensor in getattr(nn, name)(*args).state_dict().items():
        ours, peer = tensor.numpy(), theirs[key].numpy()
        few = 4 / np.sqrt(ours.size)
        spread = peer.std() if peer.size > 1 else 0
        assert ours.std() == pytest.approx(spread, rel=few), key
        assert np.abs(ours).max() == pytest.approx(np.abs(peer).max(), rel=0.1 + few), key
        assert abs(ours.mean() - peer.mean()) <= few * spread, key


# --- models ---


def torch_mlp(sizes):
    layers = OrderedDict(flatten=torch.nn.Flatten())
    for i in range(1, len(sizes) - 1):
        layers |= {f"fc{i}": torch.nn.Linear(sizes[i - 1], sizes[i]), f"relu{i}": torch.nn.ReLU()}
    return torch.nn.Sequential(layers | {f"fc{len(sizes) - 1}": torch.nn.Linear(sizes[-2], sizes[-1])})


def torch_lenet5(channels, classes, kernel, paddings, features, normed):
    t = torch.nn
    layers = OrderedDict()
    for i, (before, after) in enumerate(((channels, 6), (6, 16)), start=1):
        layers[f"conv{i}"] = t.Conv2d(before, after, kernel, padding=paddings[i - 1])
        if normed:
            layers[f"norm{i}"] = t.BatchNorm2d(after)
        layers |= {f"relu{i}": t.ReLU(), f"pool{i}": t.MaxPool2d(2)}
    layers |= {"flatten": t.Flatten(), "fc1": t.Linear(features, 120), "relu3": t.ReLU()}
    return t.Sequential(layers | {"fc2": t.Linear(120, 84), "relu4": t.ReLU(), "fc3": t.Linear(84, classes)})


def torch_cnn(channels, classes, dropout):
    t = torch.nn
    layers = OrderedDict()
    widths = [channels, 32, 32, 64, 64, 128]
    for i in range(1, 6):
        layers[f"conv{i}"] = t.Conv2d(widths[i - 1], widths[i], 3, padding=1, bias=False)
        layers |= {f"norm{i}": t.BatchNorm2d(widths[i]), f"relu{i}": t.ReLU()}
        if i in (2, 4):
            layers[f"pool{i // 2}"] = t.MaxPool2d(2)
    layers |= {"mean": t.AdaptiveAvgPool2d(1), "flatten": t.Flatten()}
    return t.Sequential(layers | {"dropout": t.Dropout(dropout), "fc": t.Linear(128, classes)})


MODELS = {
    "mlp": (lambda: nn.mlp(20, 4, hidden=(16, 8)), lambda: torch_mlp([20, 16, 8, 4]), (6, 4, 5)),
    "mlp without hidden layers": (lambda: nn.mlp(20, 4, hidden=()), lambda: torch_mlp([20, 4]), (6, 20)),
    "lenet5 at 28": (
        lambda: nn.lenet5(),
        lambda: torch_lenet5(1, 10, 5, (2, 0), 400, False),
        (4, 1, 28, 28),
    ),
    "lenet5 at 32 with batch-norm": (
        lambda: nn.lenet5(3, 7, image_size=32, batch_norm=True),
        lambda: torch_lenet5(3, 7, 5, (0, 0), 400, True),
        (4, 3, 32, 32),
    ),
    "lenet5 at 8": (
        lambda: nn.lenet5(image_size=8),
        lambda: torch_lenet5(1, 10, 3, (1, 1), 64, False),
        (4, 1, 8, 8),
    ),
    "cnn": (lambda: nn.cnn(dropout=0.0), lambda: torch_cnn(3, 10, 0.0), (4, 3, 16, 12)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_pytorchs_over_two_training_batches_and_in_evaluation(name):
    torch.manual_seed(0)
    make, make_peer, shape = MODELS[name]
    ours, theirs = make(), make_peer()
    assert repr(ours) == repr_of(theirs)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    for seed, training in enumerate((True, True, False)):
        ours.train(training), theirs.train(training)
        ours.zero_grad(), theirs.zero_grad()
        x, labels = numbers(seed, *shape), np.random.default_rng(seed).integers(0, 4, shape[0])
        mine, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        loss = nn.CrossEntropyLoss()(ours(mine), mg.tensor(labels))
        loss_peer = torch.nn.CrossEntropyLoss()(theirs(peer), torch.tensor(labels))
        assert_agree(loss, loss_peer, "the loss")
        loss.backward()
        loss_peer.backward()
        assert_agree(mine.grad, peer.grad, "the gradient of the images")
        assert_same_gradients(ours, theirs)
        assert_same_state(ours, theirs)


def test_dropout_drops_as_much_and_keeps_the_mean_as_pytorchs():
    mg.manual_seed(0)
    x = np.ones((400, 500), np.float32)
    ours = nn.Dropout(0.3)(mg.tensor(x)).numpy()
    theirs = torch.nn.Dropout(0.3)(torch.tensor(x)).numpy()
    assert set(np.unique(ours)) == set(np.unique(theirs)) == {0, np.float32(1 / 0.7)}
    assert abs((ours == 0).mean() - 0.3) < 0.01
    assert_agree(nn.Dropout(1.0)(mg.tensor(x)), torch.nn.Dropout(1.0)(torch.tensor(x)), "dropout of everything")
