"""Whether another device gives the CPU's results: shared by the tests of the strict stand-in and of a real GPU."""

import numpy as np

import minigrad as mg
from minigrad import Tensor, autograd, nn, optim
from minigrad.backend import to_device
from tests.support.op_cases import CASES, SUBJECTS, Call

TOLERANCE = {"f2": 2e-2, "f4": 2e-5, "f8": 1e-9}  # between two ways of summing, relative to the largest
CROSSINGS = {("OPS", "to_device")}  # names its devices itself


# --- ops ---


def every_op() -> list[tuple[str, str]]:
    """The keys of all ops and composites that have a case."""
    return [key for key in CASES if key in SUBJECTS and key not in CROSSINGS]


def dtypes_of(key) -> list[str]:
    """The dtypes to draw the variables' from."""
    return list(CASES[key].dtypes)


def assert_op_agrees(key, call: Call, dtype: str, device: str) -> None:
    """Values, gradients and gradients of gradients of one call, on `device` as on the CPU."""
    call = call.with_variables([x.astype(dtype) for x in call.variables()])
    expected, found = (values_and_gradients(key, call, where) for where in ("cpu", device))
    assert list(found) == list(expected)
    for name, value in expected.items():
        what, there = f"{key[1]}: {name} on {device}", found[name]
        assert there.device.startswith(device), f"{what} came back on {there.device}"
        assert there.dtype == value.dtype, f"{what} is {there.dtype}, on the CPU {value.dtype}"
        ours, theirs = value.detach().numpy(), there.detach().numpy()
        tolerance = TOLERANCE.get(ours.dtype.str[1:], 0)
        scale = np.abs(ours[np.isfinite(ours)]).max(initial=1.0)
        np.testing.assert_allclose(theirs, ours, rtol=tolerance, atol=float(tolerance * scale), err_msg=what)


def values_and_gradients(key, call: Call, device: str) -> dict[str, Tensor]:
    """By name: results, gradients along fixed random cotangents, and gradients of those gradients."""
    case, subject, random = CASES[key], SUBJECTS[key], np.random.default_rng(7)
    variables = [mg.tensor(x, device=device, requires_grad=_takes_gradients(case, x)) for x in call.variables()]
    there = call.with_tensors(variables, lambda array: mg.tensor(array, device=device))
    options = _on_device(call.options, device) if key[0] == "OPS" else call.options

    def backward(outputs, **flags) -> dict[int, Tensor]:
        cotangents = [mg.tensor(random.standard_normal(y.shape).astype(y.dtype), device=device) for y in outputs]
        found = autograd.grad(outputs, inputs, cotangents, allow_unused=True, **flags)
        return {i: gradient for i, gradient in enumerate(found) if gradient is not None}

    with np.errstate(all="ignore"):
        results = subject(*there.args, **options)
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        found = {f"result {i}": y for i, y in enumerate(results)}
        inputs, outputs = [x for x in variables if x.requires_grad], [y for y in results if y.requires_grad]
        if not outputs:
            return found
        found |= {f"gradient {i}": g for i, g in backward(outputs, retain_graph=True).items()}
        gradients = [g for g in backward(outputs, create_graph=True).values() if g.requires_grad]
        if gradients:
            found |= {f"second gradient {i}": g for i, g in backward(gradients).items()}
    return found


def assert_vmap_agrees(key, call: Call, device: str) -> None:
    """Three examples at once, their values and gradients, on `device` as on the CPU."""
    expected, found = (values_and_gradients_of_examples(key, call, where) for where in ("cpu", device))
    assert len(found) == len(expected)
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs.device.startswith(device), f"{key[1]} came back on {theirs.device}"
        ours, theirs = ours.numpy(), theirs.numpy()
        scale = np.abs(ours[np.isfinite(ours)]).max(initial=1.0)
        np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=float(1e-9 * scale), err_msg=key[1])


def values_and_gradients_of_examples(key, call: Call, device: str) -> list[Tensor]:
    """vmap of the call over all its variables, and vmap of the gradients of a weighted sum of its results."""
    case, subject = CASES[key], SUBJECTS[key]
    options = _on_device(call.options, device) if key[0] == "OPS" else call.options
    stacked = [mg.tensor(np.stack([x, x * 0.97, x * 1.02]), device=device) for x in call.variables()]
    if not stacked:
        return []

    def f(*variables):
        there = call.with_tensors(variables, lambda array: mg.tensor(array, device=device))
        results = subject(*there.args, **options)
        return tuple(results) if isinstance(results, (list, tuple)) else (results,)

    def total(*variables):
        return sum((y * y * 0.5 + y).sum() for y in f(*variables) if y.dtype.kind == "f")

    with np.errstate(all="ignore"):
        found = list(mg.vmap(f)(*stacked))
        if case.differentiable:
            found += mg.vmap(mg.grad(total, argnums=tuple(range(len(stacked)))))(*stacked)
    return found


def _takes_gradients(case, x) -> bool:
    return case.differentiable and x.dtype.kind == "f"


def _on_device(value, device):
    """A primitive's options with the arrays in them on the device, as the composites hand them over."""
    if isinstance(value, dict):
        return {name: _on_device(part, device) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_on_device(part, device) for part in value)
    return to_device(value, device) if isinstance(value, np.ndarray) else value


# --- layers and losses ---


def _floats(*shape) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _labels(*shape) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 5, shape)


WEIGHT = np.array([1, 2, 0.5, 3, 1], np.float32)
CHANCES = 1 / (1 + np.exp(-_floats(4, 5)))
TRUE = (_floats(4, 6)[:, :5] > 0).astype(np.float32)

LAYERS = {  # name -> (how to make it, its arguments)
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), _floats(2, 3, 9)),
    "Conv2d, groups": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding="same"), _floats(2, 4, 6, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2), _floats(2, 3, 5, 5)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5, momentum=None), _floats(6, 5, 3)),
    "BatchNorm2d, plain": (lambda: nn.BatchNorm2d(5, affine=False, track_running_stats=False), _floats(6, 5, 3, 2)),
    "BatchNorm2d, eval": (lambda: nn.BatchNorm2d(5).eval(), _floats(6, 5, 3, 2)),
    "Embedding": (lambda: nn.Embedding(7, 3), _labels(4, 2)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), _floats(2, 3, 7, 7)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), _floats(2, 3, 7, 7)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), _floats(2, 3, 7, 7)),
    "Linear": (lambda: nn.Linear(5, 2), _floats(3, 4, 5)),
    "Softmax": (lambda: nn.Softmax(1), _floats(3, 5)),
    "GELU": (nn.GELU, _floats(3, 5)),
    "ELU": (nn.ELU, _floats(3, 5)),
    "BCELoss": (nn.BCELoss, CHANCES, TRUE),
    "BCEWithLogitsLoss": (lambda: nn.BCEWithLogitsLoss(pos_weight=mg.tensor(WEIGHT)), _floats(4, 5), TRUE),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, _floats(4, 5), _labels(4)),
    "CrossEntropyLoss, all options": (
        lambda: nn.CrossEntropyLoss(weight=mg.tensor(WEIGHT), label_smoothing=0.1, ignore_index=2),
        _floats(4, 5, 3),
        _labels(4, 3),
    ),
    "NLLLoss": (lambda: nn.NLLLoss(weight=mg.tensor(WEIGHT)), _floats(4, 5), _labels(4)),
    "HuberLoss": (nn.HuberLoss, _floats(4, 5), TRUE),
    "MSELoss": (nn.MSELoss, _floats(4, 5), TRUE),
    "MultiMarginLoss": (lambda: nn.MultiMarginLoss(weight=mg.tensor(WEIGHT), p=2), _floats(4, 5), _labels(4)),
}


def assert_layer_agrees(name: str, device: str) -> None:
    """Results and gradients of a layer or loss as on the CPU."""
    make, *arrays = LAYERS[name]
    found = {}
    for place in ("cpu", device):
        mg.manual_seed(0)
        layer = make().to(place)
        x, *targets = (mg.tensor(array, device=place) for array in arrays)
        x.requires_grad_(x.dtype.kind == "f")
        y = layer(x, *targets)
        (y * y).sum().backward()
        gradients = [t.grad for t in (x, *layer.parameters()) if t.requires_grad]
        assert all(tensor.device.startswith(place) for tensor in (y, *gradients))
        found[place] = [tensor.detach().numpy() for tensor in (y, *gradients)]
    for here, there in zip(found["cpu"], found[device], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-5 * (1 + np.abs(here).max()), err_msg=name)


# --- training ---


def small_cnn() -> nn.Module:
    """Convolution, batch-norm, ReLU, pooling, linear: each kind of layer once, the same weights every time."""
    mg.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),  # a bias here would have no gradient but rounding
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "SGD, Nesterov": lambda parameters: optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda parameters: optim.Adam(parameters, lr=1e-2),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=1e-2),
}


def training_steps(optimizer: str, device: str, steps: int = 3):
    """Yields the loss, a Tensor, after each step; the last item is the state of the trained model."""
    random = np.random.default_rng(5)
    images = mg.tensor(random.standard_normal((6, 2, 8, 8)).astype(np.float32), device=device)
    labels = mg.tensor(random.integers(0, 5, 6), device=device)
    model = small_cnn().to(device)
    loss_of, stepper = nn.CrossEntropyLoss(), OPTIMIZERS[optimizer](model.parameters())
    for _ in range(steps):
        loss = loss_of(model(images), labels)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        yield loss
    yield model.state_dict()


def assert_training_agrees(optimizer: str, device: str) -> None:
    """Three steps lead to the same losses, weights and running statistics as on the CPU."""
    *losses, state = training_steps(optimizer, "cpu")
    *losses_there, state_there = training_steps(optimizer, device)
    assert all(loss.device.startswith(device) for loss in losses_there)
    np.testing.assert_allclose([x.item() for x in losses_there], [x.item() for x in losses], rtol=1e-4)
    for name, value in state.items():
        np.testing.assert_allclose(state_there[name].numpy(), value.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
