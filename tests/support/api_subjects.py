"""The subjects of the fuzz: every public op, method, layer, loss, optimizer and schedule, with a call that works.

Their working calls come from the tables of the other tests where there is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad.autograd.methods import TensorMethods
from minigrad.nn import functional
from tests.support.api_fuzz import Maker, Subject
from tests.support.nn_cases import LAYERS, LOSSES
from tests.support.op_cases import CASES, SUBJECTS
from tests.support.op_cases.case import Call

ALIASES = {"cat": "concatenate", "unsqueeze": "expand_dims", "view": "reshape", "expand": "broadcast_to"}
OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lt", "ge"]
OPERATORS += [f"r{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and")]

looking = settings(
    max_examples=300, phases=[Phase.generate], derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def of_some_size(call: Call) -> bool:
    return all(2 <= x.size <= 40 for x in call.variables()) and len({x.shape for x in call.variables()}) < 3


@cache
def working_call(table: str, name: str) -> Call:
    """A call of an op that works, on arrays of a few elements."""
    try:
        return find(CASES[table, name].calls, of_some_size, settings=looking)
    except NoSuchExample:
        return find(CASES[table, name].calls, lambda call: True, settings=looking)


def tensors(value: Any) -> Any:
    """What makes a working argument anew: arrays as Tensors, of floats with a gradient."""
    if isinstance(value, list) and any(isinstance(part, np.ndarray) for part in value):
        return Maker(lambda: [made(part) for part in value])
    return Maker(lambda: made(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def made(value: Any) -> Any:
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    tensor = Tensor(np.array(value))
    return tensor.requires_grad_() if tensor.dtype.kind == "f" else tensor


def of_call(name: str, function: Callable[..., Any], call: Call, words: tuple[str, ...] = ()) -> Subject:
    bound = inspect.signature(function).bind(*map(tensors, call.args), **call.options)
    variadic = [p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_POSITIONAL]
    rest = tuple(v for n in variadic for v in bound.arguments.get(n, ()))
    return Subject(name, function, {n: v for n, v in bound.arguments.items() if n not in variadic}, rest, words=words)


def case_of(name: str) -> Call | None:
    for table in ("COMPOSITES", "OPS"):
        if (table, name) in CASES:
            return working_call(table, name)
    return None


@cache
def ops() -> list[Subject]:
    found = []
    for owner in (mg.ops, mg.linalg):
        for name in owner.__all__:
            function = getattr(owner, name)
            if function in SUBJECTS.values():
                words = (getattr(function, "__name__", name),)
                found.append(of_call(name, function, case_of(words[0]), words))
    return found


@cache
def methods() -> list[Subject]:
    found = []
    for name, method in vars(TensorMethods).items():
        if name.startswith("_") or not inspect.isfunction(method) or name == "backward":
            continue
        call = case_of(ALIASES.get(name, name))
        assert call is not None, name
        words = (ALIASES.get(name, name),) + (("transpose",) if name == "permute" else ())
        try:
            found.append(of_call(f"Tensor.{name}", method, call, words))
        except TypeError:
            found.append(Subject(f"Tensor.{name}", method, {"self": tensors(call.args[0])}, words=words))
    for name in OPERATORS:
        method = getattr(TensorMethods, f"__{name}__")
        words = tuple(mg.ops.__all__)
        integers = name in ("and", "or", "xor", "rand")
        operand = np.arange(1, 7).reshape(2, 3) if integers else np.linspace(0.5, 2, 9 if "matmul" in name else 6)
        operand = operand.reshape((3, 3) if "matmul" in name else (2, 3))
        found.append(of_call(f"Tensor.__{name}__", method, Call((operand, operand)), words))
    indexed = np.arange(24.0).reshape(2, 3, 4)
    found.append(of_call("Tensor.__getitem__", TensorMethods.__getitem__, Call((indexed, 1)), ("getitem", "index")))
    return found


def inputs(*shape: int) -> Maker:
    return Maker(lambda: Tensor(np.random.default_rng(0).uniform(-2, 2, shape).astype("f4")).requires_grad_())


LAYER_WORDS = (*functional.__all__, *mg.ops.__all__)


@cache
def layers() -> list[Subject]:
    """The constructor of every layer, and what it makes called on any input."""
    found = []
    seen = set()
    for entry in LAYERS:
        name, args, options, shape = entry.values
        if (name, len(args)) in seen or name == "Identity":  # which takes and returns anything
            continue
        seen.add((name, len(args)))
        kind = getattr(nn, name)
        called = len([s for s in found if s.name.startswith(name)])
        x = inputs(*shape)
        label = f"{name}" if not called else f"{name}[{called}]"
        given = dict(inspect.signature(kind).bind(*args, **options).arguments)
        given.pop("args", None)
        words = (name, *LAYER_WORDS)
        found.append(Subject(label, kind, given, after=lambda layer, x=x: layer(x()), words=words))
        layer = kind(*args, **options)
        found.append(Subject(f"{label}.forward", forward_of(layer), {"x": x}, words=words))
    return found


def forward_of_loss(loss: nn.Module) -> Callable[..., Any]:
    def forward(input, target):
        return loss(input, target)

    return forward


def forward_of(layer: nn.Module) -> Callable[..., Any]:
    def forward(x):
        return layer(x)

    return forward


@cache
def losses() -> list[Subject]:
    found, seen = [], set()
    for name, options, (x, target) in LOSSES:
        key = (name, *options, target.dtype.kind)
        if key in seen:
            continue
        seen.add(key)
        kind = getattr(nn, name)
        label = f"{name}({', '.join(options)}){target.dtype.kind}"
        words = (name, *LAYER_WORDS)
        both = {"input": tensors(x), "target": tensors(target)}
        given = {n: tensors(v) for n, v in options.items()}
        after = lambda loss, both=both: loss(**{n: v() for n, v in both.items()})  # noqa: E731
        found.append(Subject(label, kind, given, after=after, words=words))
        found.append(Subject(f"{label}.forward", forward_of_loss(kind(**options)), both, words=words))
        function = getattr(functional, FUNCTIONS[name])
        found.append(Subject(f"{label}:{FUNCTIONS[name]}", function, both | given, words=words))
    return found


FUNCTIONS = {
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "HuberLoss": "huber_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
}


def functionals() -> list[Subject]:
    """The functions of `functional` that are neither ops nor losses."""
    image, statistic = inputs(2, 3, 4, 4), Maker(lambda: mg.ones(3))
    given = {
        "softmax": {"x": image, "dim": 1},
        "log_softmax": {"x": image, "dim": 1},
        "softplus": {"x": image},
        "batch_norm": {"x": image, "running_mean": statistic, "running_var": statistic, "training": True},
        "dropout": {"x": image, "p": 0.5},
        "dropout1d": {"x": inputs(2, 3, 4), "p": 0.5},
        "dropout2d": {"x": image, "p": 0.5},
        "stochastic_depth": {"x": image, "p": 0.5},
    }
    return [Subject(f"F.{name}", getattr(functional, name), a) for name, a in given.items()]


def parameters() -> list[Tensor]:
    return [nn.Parameter(np.ones((2, 3), "f4")), nn.Parameter(np.ones((3, 3), "f4"))]


def step(optimizer: Any) -> None:
    for p in optimizer.param_groups[0]["params"]:
        p.grad = mg.ones_like(p.detach())
    optimizer.step()


OPTIMIZERS = (
    "Adadelta Adagrad Adam AdamW Adamax HeavyBall Lion Muon NAGC NAGSC NAdam Nesterov RAdam RMSprop SGD".split()
)
CLOSURES = "BFGS LBFGS Newton GaussNewton LevenbergMarquardt".split()


def optimizers() -> list[Subject]:
    found = [Subject(n, getattr(optim, n), {"params": Maker(parameters)}, after=step) for n in OPTIMIZERS]
    return found + [
        Subject(n, getattr(optim, n), {"params": Maker(parameters)}, after=lambda o: None) for n in CLOSURES
    ]


SCHEDULES: dict[str, dict[str, Any]] = {
    "ConstantLR": {},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 5},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.5},
    "ExponentialLR": {"gamma": 0.9},
    "InverseTimeLR": {"decay": 0.1},
    "LambdaLR": {"lr_lambda": lambda t: 0.9**t},
    "LinearLR": {},
    "MultiStepLR": {"milestones": [2, 4]},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.9},
    "OneCycleLR": {"max_lr": 0.5, "total_steps": 10},
    "PolynomialLR": {},
    "ReduceLROnPlateau": {},
    "RobbinsMonroLR": {},
    "StepLR": {"step_size": 2},
}


def schedules() -> list[Subject]:
    def after(schedule: Any) -> None:
        schedule.step(1.0) if isinstance(schedule, optim.ReduceLROnPlateau) else schedule.step()
        rates = [group["lr"] for group in schedule.optimizer.param_groups]
        assert all(isinstance(r, (int, float, np.floating)) and 0 <= r < float("inf") for r in rates), f"rates {rates}"

    optimizer = Maker(lambda: optim.SGD(parameters(), lr=0.1, momentum=0.9))
    return [
        Subject(name, getattr(optim, name), {"optimizer": optimizer, **given}, after=after)
        for name, given in SCHEDULES.items()
    ]


def every_subject() -> list[Subject]:
    return [*ops(), *methods(), *layers(), *losses(), *functionals(), *optimizers(), *schedules()]
