"""The table of checks/test_anomaly.py: what makes a NaN or an infinity, where, and what detect_anomaly says of it.

Each function in TROUBLES makes one, in the line that ends in "# here"; its `Trouble` finds that line in this file.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, autograd, nn
from minigrad.checks.anomaly import AnomalyError, detect_anomaly


def leaf(*values, dtype="f4"):
    return mg.tensor(np.asarray(values if len(values) > 1 else values[0], dtype), requires_grad=True)


# --- what makes trouble, where ---


@dataclass(frozen=True)
class Trouble:
    """A function in whose line "# here" an op is called that makes a NaN or an infinity, and what is to be said."""

    function: Callable
    op: str
    phase: str = "forward"
    argument: str | None = None
    says: tuple[str, ...] = ()

    @property
    def line(self) -> int:
        lines, first = inspect.getsourcelines(self.function)
        (offset,) = [i for i, line in enumerate(lines) if line.rstrip().endswith("# here")]
        return first + offset

    def run(self, create_graph=False) -> None:
        """Call the function; for the backward phase go backward from the tensor it gives."""
        y = self.function()
        if self.phase == "backward" and y is not None:
            y.backward(np.ones(y.shape, y.dtype), create_graph=create_graph)

    def check(self, create_graph=False) -> str:
        """Assert that the error says it all; gives the message."""
        with pytest.raises(AnomalyError) as caught, detect_anomaly():
            self.run(create_graph)
        error = caught.value
        found = (error.op, error.phase, error.argument, error.filename, error.line)
        assert found == (self.op, self.phase, self.argument, __file__, self.line)
        message = str(error)
        assert f'File "{__file__}", line {self.line}' in message and "# here" not in message.splitlines()[0]
        assert not [words for words in self.says if words not in message], message
        return message


TROUBLES: dict[str, Trouble] = {}


def trouble(op, phase="forward", argument=None, says=()):
    def enter(function):
        TROUBLES[function.__name__] = Trouble(function, op, phase, argument, says)
        return function

    return enter


@trouble("log", says=("NaN in its result", "x: float32 (2,), -1 to 3", "float32 (2,), 1.09861 to 1.09861, 1 NaN"))
def an_op_outside_of_its_domain():
    x = leaf(-1.0, 3.0)
    return mg.log(x)  # here


@trouble("divide", says=("Inf in its result", "a: float32 (2,), 1 to 2", "b: 0.0", "inf=False"))
def an_operator():
    return leaf(1.0, 2.0) / 0.0  # here


@trouble("power", says=("b: 0.5",))
def a_reflected_operator_of_two_lines():
    x = leaf(-1.0, 3.0)
    return (
        1.0 + x**0.5  # here
    )


@trouble("sqrt")
def a_method():
    return leaf(-4.0).sqrt().sum()  # here


@trouble("exp")
def what_needs_no_gradient():
    return mg.exp(mg.tensor([1000.0]))  # here


@trouble("exp")
def an_op_under_no_grad():
    @mg.no_grad()
    def inner(x):
        return mg.exp(x)  # here

    return inner(leaf(1000.0))


@trouble("square", says=("through var",))
def a_composite():
    x = leaf(0.0, 1e30)
    return mg.var(x)  # here


@trouble("square", says=("through var",))
def a_composite_as_a_method():
    return leaf(0.0, 1e30).var()  # here


@trouble("concatenate", says=("arrays[1]: float32 (1,), no finite number, 1 NaN", "arrays[1] held NaN already"))
def one_of_many_operands():
    return mg.concatenate([leaf([1.0]), mg.tensor([np.nan]), leaf([2.0])])  # here


@trouble("linear", says=("weight: float32 (2, 3)", "weight held NaN already", "through Sequential.forward"))
def a_layer_in_a_model():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    model[0].weight.copy_(np.full((2, 3), np.nan))
    return model(mg.ones(4, 3))  # here


@trouble("log")
def a_module_of_the_users_own():
    class Entropy(nn.Module):
        def forward(self, p):
            return -(p * mg.log(p)).sum()  # here

    return Entropy()(leaf(0.0, 1.0))


@trouble("batch_norm", says=("Inf", "weight: float32 (2,), 3e+38"))
def a_fused_op():
    x = leaf(np.arange(8.0).reshape(4, 2))
    return mg.batch_norm(x, leaf(3e38, 3e38), leaf(1.0, 1.0))  # here


@trouble("softmax", says=("x held an infinity", "inf - inf"))
def a_row_that_is_masked_altogether():
    scores = mg.where(np.zeros(3, bool), leaf(1.0, 2.0, 3.0), -np.inf)
    return mg.softmax(scores)  # here


@trouble("log")
def an_op_in_a_hook():
    x = leaf(2.0)
    x.register_hook(lambda g: mg.log(-g))  # here
    (x * 1.0).backward()


@trouble("sqrt", "backward", "x", says=("Inf in the gradient of its argument 'x'", "saved out: float32 (2,), 0 to 2"))
def a_slope_that_is_infinite():
    x = leaf(0.0, 4.0)
    y = mg.sqrt(x)  # here
    return (y * 2.0).sum()


@trouble("sqrt", "backward", "x", says=("NaN", "incoming gradient: float32 (2,), 0 to 1", "0 * inf is NaN"))
def a_branch_not_taken():
    x = leaf(0.0, 4.0)
    y = mg.sqrt(x)  # here
    return mg.where(x > 0, y, 0.0)


@trouble("divide", "backward", "b", says=("incoming gradient: float32 (), 1 to 1",))
def the_second_argument():
    a, b = leaf(1.0), leaf(1e-25)
    return a / b  # here


@trouble("multiply", "backward", "b", says=("through elu", "saved a: 2.0"))
def a_composite_backward():
    scaled = mg.elu(leaf(-0.01, 1.0), alpha=2.0)  # here
    return scaled * 2e38


@trouble("power", "backward", "a", says=("Called in the derivative of power, by:",))
def the_second_derivative():
    x = leaf(0.0, 1.0)
    y = x**1.5  # here
    (slope,) = autograd.grad(y.sum(), x, create_graph=True)
    return slope


@trouble("batch_norm", "backward", "x", says=("incoming gradient: float32 (4, 2), -2e+38 to 2e+38", "saved x"))
def a_joint_rule():
    x = leaf(np.arange(8.0).reshape(4, 2) * 1e-2)
    y = mg.batch_norm(x, leaf(1.0, 1.0))  # here
    return y * np.where(np.arange(8).reshape(4, 2) % 3, 2e38, -2e38).astype("f4")


@trouble("multiply", "backward", "a", says=("when it was added up in float16", "wider dtype"))
def a_sum_over_broadcast_axes():
    x = leaf([[1.0, 1.0]], dtype="f2")
    return x * np.full((4, 2), 3e4, "f2")  # here


@trouble("multiply", "backward", "a", says=("when it was added up", "gradient from other uses: float32 (), 3e+38"))
def a_sum_over_uses():
    x = leaf(1e-3)
    y = x * 3e38  # here
    return y + x * 3e38


@trouble("multiply", "backward", "a", says=("incoming gradient held NaN already", "a hook"))
def a_hook_that_gives_nan():
    x = leaf(1.0)
    y = x * 2.0  # here
    y.register_hook(lambda g: Tensor(np.float32(np.nan)))
    return y + 1.0


@trouble("sqrt", "backward", "x", says=("saved out: float32 (2,), 0 to 2",))
def a_checkpointed_function():
    @mg.transforms.checkpoint
    def f(x):
        return mg.exp(mg.sqrt(x))  # here

    return f(leaf(0.0, 4.0))


@trouble("log", says=("x: float32 (3,), -1 to 2", "1 NaN"))
def one_example_of_many():
    return mg.vmap(lambda x: x + mg.log(x))(leaf(1.0, -1.0, 2.0))  # here


@trouble("sqrt", "backward", "x", says=("incoming gradient: float32 (3,), 1 to 1", "1 Inf"))
def one_examples_gradient():
    x = leaf(1.0, 0.0, 2.0)
    return mg.vmap(lambda x: mg.sqrt(x) + x)(x)  # here


@trouble("sqrt", "forward mode", says=("tangent of x: float32 (2,), 1 to 1",))
def forward_mode():
    x = leaf(0.0, 4.0)
    y = mg.sqrt(x)  # here
    mg.push(y, x, np.ones(2, "f4"))


@trouble("batch_norm", "forward mode", says=("tangent of x", "saved x"))
def forward_mode_through_a_twin():
    x = leaf(np.arange(8.0).reshape(4, 2) * 1e-2)
    y = mg.batch_norm(x)  # here
    mg.push(y, x, np.where(np.arange(8).reshape(4, 2) % 3, 2e38, -2e38).astype("f4"), create_graph=True)
