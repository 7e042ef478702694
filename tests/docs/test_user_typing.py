"""What an editor shows and mypy finds on a page of a user's lines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each line says behind its `#` what mypy is to say of it: the type that it reveals, or words of an error.
PAGE = """
import minigrad as mg
from minigrad import nn, optim

x = mg.tensor([1.0, 2.0])
reveal_type(x + 1)  # Tensor
reveal_type(2 * x)  # Tensor
reveal_type(x @ x)  # Tensor
reveal_type(x[0])  # Tensor
reveal_type(-x)  # Tensor
reveal_type(x == x)  # Tensor
reveal_type(x.T)  # Tensor
reveal_type(x.sum(axis=0))  # Tensor
reveal_type(x.sum(0, keepdims=True))  # Tensor
reveal_type(x.topk(1))  # tuple[Tensor, Tensor]
reveal_type(mg.sin(x))  # Tensor
reveal_type(mg.exp(x=x))  # Tensor
reveal_type(mg.add(x, 1.0))  # Tensor
reveal_type(mg.sum(x, 0))  # Tensor
reveal_type(mg.sum(x, axis=0, keepdims=True))  # Tensor
reveal_type(mg.reshape(x, (2, 1)))  # Tensor
reveal_type(mg.var(x, axis=0))  # Tensor
reveal_type(nn.Linear(2, 3)(x))  # Tensor
reveal_type(x.shape)  # tuple[int, ...]
x.summ()  # "Tensor" has no attribute "summ"
x.sum(keepdim=True)  # Unexpected keyword argument "keepdim"
mg.sin(x, axis=0)  # Unexpected keyword argument "axis"
mg.sum(x, keepdim=True)  # Unexpected keyword argument "keepdim"
mg.sinn(x)  # Module has no attribute "sinn"
optim.Adam([x], learning_rate=0.1)  # Unexpected keyword argument "learning_rate"
nn.Linear(2)  # Missing positional argument "out_features"


@mg.primitive(kind="elementwise")
def cube(x: mg.Tensor) -> mg.Tensor:
    return x * x * x


reveal_type(cube(x))  # Tensor
cube(x, x)  # Too many arguments
mg.primitive(kind="elementwize")  # No overload variant
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[int, str]:
    """What mypy says of each line of the page, by the line's number."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.py").write_text(PAGE)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", folder / "page.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found: dict[int, str] = {}
    for number, words in re.findall(r"page\.py:(\d+): (?:error|note): (.*)", done.stdout):
        found[int(number)] = f"{found.get(int(number), '')} {words}".replace("minigrad.autograd.tensor.", "")
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("number", [n for n, line in enumerate(PAGE.splitlines(), 1) if "  # " in line])
def test_mypy_says_of_a_users_line_what_stands_behind_it(number, said):
    line = PAGE.splitlines()[number - 1]
    expected = line.split("  # ")[1]
    if line.startswith("reveal_type"):
        expected = f'Revealed type is "{expected}"'
    assert expected in said.get(number, ""), line


def test_mypy_has_nothing_else_to_say(said):
    assert {n for n, line in enumerate(PAGE.splitlines(), 1) if "  # " in line} == said.keys()


# --- an editor ---


def script(line: str):
    """jedi, which answers in many editors, and the place behind a last line of code."""
    jedi = pytest.importorskip("jedi")
    code = f"import minigrad as mg\nfrom minigrad import nn, optim\nx = mg.tensor([1.0])\n{line}"
    return jedi.Script(code, project=jedi.Project(ROOT)), (4, len(line))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("x.s", {"sum", "sin", "sqrt", "softmax", "shape", "std"}),
        ("(x + 1).me", {"mean"}),
        ("mg.sin(x).ex", {"exp", "expand_dims"}),
        ("mg.log", {"log", "log1p", "log_softmax", "logsumexp"}),
        ("nn.Lin", {"Linear"}),
        ("optim.Ada", {"Adam", "AdamW", "Adagrad"}),
    ],
)
def test_an_editor_completes(line, names):
    jedi, place = script(line)
    assert names <= {completion.name for completion in jedi.complete(*place)}


@pytest.mark.parametrize(
    ("line", "signature"),
    [
        ("x.sum(", "sum(axis: Axis=None, keepdims: bool=False) -> Tensor"),
        ("x.clip(", "clip(low: Operand | None=None, high: Operand | None=None) -> Tensor"),
        ("x.backward(", "gradient: Operand | None=None, *, retain_graph: bool | None=None"),
        ("optim.SGD(", "lr: float=1e-3, momentum: float=0"),
        ("mg.tensor(", "tensor(data: Any, dtype: "),
    ],
)
def test_an_editor_shows_a_signature(line, signature):
    jedi, place = script(line)
    (shown,) = jedi.get_signatures(*place)
    assert signature in shown.to_string()


def test_an_editor_shows_a_first_sentence():
    jedi, place = script("x.sum(")
    (shown,) = jedi.get_signatures(*place)
    assert "The sum over `axis`" in shown.docstring()
