"""Paths of optimizers over surfaces: the surfaces are those of the books, the paths those of the formulas."""

import itertools
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import descent
import optimizer_paths
import path_pictures
from surfaces import SURFACES, Surface, SurfaceError, find_surface

RAVINE, BEALE = SURFACES["ravine"], SURFACES["beale"]
LEAST = {"beale": 0, "rosenbrock": 0, "himmelblau": 0, "ravine": 0, "saddle": -0.25}


@pytest.fixture
def draw(tmp_path, monkeypatch, capsys):
    """Run the example in a folder of its own; gives the paths and what was printed."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        walks = optimizer_paths.main([str(argument) for argument in arguments])
        return walks, capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys):
    """What the example says when it refuses its arguments."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            optimizer_paths.main([str(argument) for argument in arguments])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    return run


# --- the surfaces ---


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_at_the_minima_the_gradient_vanishes_and_nowhere_in_view_is_it_lower(surface):
    for minimum in surface.minima:
        point = mg.tensor(minimum, dtype=mg.float64)
        assert surface.values(minimum) == pytest.approx(LEAST[surface.name], abs=1e-14)
        gradient = mg.grad(lambda p: surface.function(p[0], p[1]))(point)
        np.testing.assert_allclose(gradient.numpy(), 0, atol=1e-12)
    assert surface.values(surface.grid()).min() >= LEAST[surface.name] - 1e-14


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_all_starts_and_minima_are_in_view(surface):
    assert surface.holds(np.array([*surface.starts, *surface.minima])).all()


def test_surfaces_have_the_values_of_the_books():
    assert BEALE.values((2.0, -2.0)) == 324.703125  # 4.5^2 + 8.25^2 + 15.375^2
    assert BEALE.values((-3.0, 3.0)) == 6174.703125  # 4.5^2 + 21.75^2 + 75.375^2
    assert SURFACES["rosenbrock"].values((-1.2, 1.0)) == pytest.approx(24.2)
    assert SURFACES["himmelblau"].values((-0.270845, -0.923039)) == pytest.approx(181.617, abs=5e-4)  # its maximum
    assert SURFACES["saddle"].values((0.0, 0.0)) == 0


def test_a_grid_is_evaluated_in_one_call_to_the_values_of_its_points():
    calls = []

    def counted(x, y):
        calls.append(x.shape)
        return BEALE.function(x, y)

    surface = Surface("counted", counted, BEALE.starts, BEALE.view)
    values = surface.values(surface.grid(7))
    assert calls == [(7, 7)]
    single = [[float(BEALE.values(point)) for point in row] for row in surface.grid(7)]
    np.testing.assert_allclose(values, single, rtol=1e-14)


def test_beale_begins_where_the_lectures_do():
    assert BEALE.starts == ((2.0, -2.0), (-3.0, 3.0))


# --- the paths ---


def beale_gradient(p):
    """By hand."""
    x, y = p
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return 2 * np.array([a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1), a * x + b * 2 * x * y + c * 3 * x * y**2])


@pytest.mark.parametrize("start", BEALE.starts)
@pytest.mark.parametrize("momentum", [0, 0.9])
def test_the_path_of_sgd_is_the_recurrence(start, momentum):
    path = descent.follow(
        lambda params: optim.SGD(params, lr=2e-5, momentum=momentum), BEALE.function, start, steps=100
    )
    expected, velocity = [np.array(start)], 0
    for _ in range(100):
        velocity = momentum * velocity + beale_gradient(expected[-1])
        expected.append(expected[-1] - 2e-5 * velocity)
    np.testing.assert_allclose(path, expected, rtol=1e-11)


def test_the_look_ahead_form_gets_its_closure_and_leads_elsewhere_than_the_rewritten_one():
    looking, rewritten = (
        descent.find_method(label)(RAVINE.function, (3.0, 1.0), 50, 0.01)
        for label in ("Nesterov(look_ahead=True)", "Nesterov")
    )
    ahead = looking[1:-1] + 0.9 * (looking[1:-1] - looking[:-2])  # where its next gradient is taken
    np.testing.assert_allclose(rewritten[1:-1], ahead, rtol=1e-9, atol=1e-14)
    assert not np.allclose(looking, rewritten)


@pytest.mark.parametrize("label", descent.METHODS)
def test_every_method_goes_down_the_ravine_at_the_rate_of_the_table(label):
    path = descent.METHODS[label](RAVINE.function, (3.0, 1.0), 200, descent.RATES["ravine"][label])
    assert path.shape == (201, 2) and tuple(path[0]) == (3.0, 1.0)
    values = RAVINE.values(path)
    assert values[-1] < 0.1 * values[0]


def test_every_optimizer_there_is_can_be_drawn():
    drawn = {type(make([mg.zeros((1, 2), requires_grad=True)])) for make in descent.OPTIMIZERS.values()}
    there = {kind for kind in vars(optim).values() if isinstance(kind, type) and issubclass(kind, optim.Optimizer)}
    whole_searches = {optim.LBFGS, optim.BFGS, optim.Newton, optim.GaussNewton, optim.LevenbergMarquardt}
    assert there - drawn == {optim.Optimizer, optim.Regularized, *whole_searches}  # Regularized needs a model


def test_the_table_has_a_rate_for_every_method_on_every_surface():
    assert descent.RATES.keys() == SURFACES.keys()
    for rates in descent.RATES.values():
        assert rates.keys() == descent.METHODS.keys()
        assert set(rates.values()) <= set(descent.GRID)


def test_a_function_from_start_to_path_can_join_the_methods(draw, monkeypatch):
    def straight(function, start, steps, lr):
        return np.linspace(start, (0.0, 0.0), steps + 1)

    monkeypatch.setitem(descent.METHODS, "straight", straight)
    (walk,), said = draw("--function", "ravine", "--optimizers", "straight", "--lr", "straight=1", "--steps", 10)
    np.testing.assert_allclose(walk.path, np.linspace((3, 1), (0, 0), 11))
    assert "straight" in said


def test_the_rate_found_for_the_ravine_is_the_one_that_theory_says():
    # SGD keeps |1 - 2 lr| of x and |1 - 100 lr| of y: of 0.005, 0.01, 0.02 the second is best, the third never settles.
    assert descent.find_rate("SGD", RAVINE, steps=400, tolerance=1e-4) == 0.01 == descent.RATES["ravine"]["SGD"]


def test_a_rate_that_an_optimizer_refuses_is_not_chosen():
    rate = descent.find_rate("NAGSC(strong_convexity=50.0)", RAVINE, steps=20, tolerance=1e-4)
    assert rate <= 1 / 50


# --- how soon ---


@given(st.lists(st.sampled_from([0.0, 0.5, 0.5, 0.75, 1.0, math.nan, math.inf]), min_size=1, max_size=31))
def test_steps_to_tolerance_by_their_definitions(values):
    there = [n for n in range(len(values)) if values[n] <= 0.75]
    settled = [n for n in there if all(value <= 0.75 for value in values[n:])]
    late = not settled or settled[0] > 0.9 * (len(values) - 1)
    assert descent.first_within(np.array(values), 0.25, 0.5) == (there[0] if there else None)
    assert descent.settled_within(np.array(values), 0.25, 0.5) == (None if late else settled[0])


def test_a_visit_at_the_last_step_is_no_arrival_for_good():
    assert descent.settled_within(np.array([1.0] * 100 + [0.0]), 0.0, 0.1) is None
    assert descent.settled_within(np.array([1.0] * 90 + [0.0] * 11), 0.0, 0.1) == 90


def test_steps_to_tolerance_in_closed_form(draw):
    _, said = draw("--function", "ravine", "--optimizers", "SGD", "--lr", "SGD=0.01", "--tolerance", 1e-4)
    steps = math.ceil(math.log(9 / 1e-4) / (-2 * math.log(0.98)))  # x = 3 * 0.98^k, and y is 0 after one step
    assert said.splitlines()[2].split() == [
        *("SGD", "0.01", "(3,", "1)"), str(steps), str(steps), f"{9 * 0.98**1000:.2e}", f"{3 * 0.98**500:.2e}"
    ]  # fmt: skip


def test_the_table_is_about_the_paths(draw):
    walks, said = draw("--function", "beale", "--optimizers", "NAGC", "Adam", "--steps", 300)
    lines = said.splitlines()[2:6]
    assert [walk.label for walk in walks] == ["NAGC", "NAGC", "Adam", "Adam"]
    for walk, line in zip(walks, lines, strict=True):
        x, y = walk.path.T
        f = (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
        inside = f <= 1e-4
        first = next((str(n) for n in range(301) if inside[n]), "-")
        settled = next((str(n) for n in range(271) if inside[n:].all()), "-")
        assert line.split()[4:6] == [first, settled]
        assert float(line.split()[6]) == pytest.approx(f[-1], rel=0.01)
        assert float(line.split()[7]) == pytest.approx(np.hypot(x[-1] - 3, y[-1] - 0.5), rel=0.01)


def test_a_path_that_diverges_is_drawn_as_far_as_it_is_in_sight_and_the_table_says_so(draw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (walk,), said = draw("--function", "ravine", "--optimizers", "SGD", "--lr", "SGD=1", "--steps", 500)
    finite = np.isfinite(walk.path).all(axis=1)
    first = int(np.argmin(finite))
    assert (
        first == math.ceil(math.log(sys.float_info.max / 100, 99)) + 1
    )  # y grows by -99 a step, its gradient is 100 y
    assert not finite[first:].any()
    assert f"diverged: no numbers from step {first} on" in said
    _, ((line, _, seen),) = path_pictures.panels(RAVINE, [walk])
    drawn = np.isfinite(line.get_xydata()).all(axis=1)
    assert drawn[0] and not drawn[2:].any() and seen is not walk.path


def test_a_path_that_leaves_the_picture_is_told_so(draw):
    (walk,), said = draw("--function", "ravine", "--optimizers", "SGD", "--lr", "SGD=0.0205", "--steps", 40)
    first = math.floor(math.log(2) / math.log(1.05)) + 1  # |y| = 1.05^k passes the view's 2
    assert np.isfinite(walk.path).all()
    assert f"left the picture at step {first}\n" in said


@pytest.mark.parametrize(("column", "name"), [(4, "ravine"), (5, "saddle")])
def test_the_documents_table_is_what_the_command_prints(draw, column, name):
    document = (Path(__file__).parents[2] / "docs" / "choosing.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in document.splitlines() if line.startswith("|")]
    told = {row[0]: row[column] for row in rows if len(row) == 6 and row[0] in descent.METHODS}
    assert told.keys() == descent.METHODS.keys()
    labels = ["SGD", "Momentum", "Nesterov", "NAGC", "Adagrad", "Adam", "AMSGrad", "Muon"]
    _, said = draw("--function", name, "--optimizers", *labels, "--steps", 2000)
    for label, line in zip(labels, said.splitlines()[2:], strict=False):
        first, settled = line.split()[4:6]
        assert told[label] == first + ("*" if settled == "-" != first else ""), label


# --- the pictures ---


def test_the_picture_and_the_animation_open(draw):
    image = pytest.importorskip("PIL.Image")
    draw("--optimizers", "SGD", "Adam", "--steps", 50, "--out", "p.png", "--animate", "p.gif", "--frames", 8)
    with image.open("p.png") as picture:
        assert picture.format == "PNG" and picture.width > picture.height > 300
        assert 20 < len(picture.convert("RGB").getcolors(1 << 20)) <= 128
    with image.open("p.gif") as film:
        assert film.format == "GIF" and film.n_frames == 9
        first = np.asarray(film.convert("RGB"))
        film.seek(8)
        assert not np.array_equal(first, np.asarray(film.convert("RGB")))


def test_the_animation_as_a_page_holds_its_frames(draw):
    draw("--optimizers", "SGD", "--start", 2, -2, "--steps", 20, "--animate", "p.html", "--frames", 3)
    assert Path("p.html").read_text().count("data:image/png;base64") == 4


@pytest.mark.parametrize(("steps", "frames"), [(1, 60), (7, 60), (500, 60), (10_000, 1)])
def test_frames_are_different_and_run_from_the_start_to_the_end(steps, frames):
    shown = path_pictures.frame_steps(steps, frames)
    assert shown[0] == 0 and shown[-1] == steps
    assert all(before < after for before, after in itertools.pairwise(shown))
    assert len(shown) <= frames + 1


def test_there_is_a_panel_for_each_start_and_a_line_for_each_path(draw):
    starts = [(1.0, 1.0), (2.0, -2.0), (0.0, 3.0)]
    walks, _ = draw("--optimizers", "SGD", "Adam", *(word for s in starts for word in ("--start", *s)), "--steps", 5)
    figure, lines = path_pictures.panels(BEALE, walks)
    assert len(figure.axes) == 3 and len(walks) == 6
    for (line, head, _), (start, label) in zip(lines, itertools.product(starts, ["SGD", "Adam"]), strict=True):
        assert line.axes is figure.axes[starts.index(start)] and line.get_label() == label
        (walk,) = (walk for walk in walks if (walk.start, walk.label) == (start, label))
        np.testing.assert_array_equal(line.get_xydata(), walk.path)
        np.testing.assert_array_equal(head.get_xydata(), walk.path[-1:])


# --- one's own function, and mistakes ---


def test_a_function_written_on_the_command_line_gives_the_paths_of_the_same_function_here(draw):
    arguments = ("--optimizers", "SGD", "--lr", "SGD=0.01", "--start", 3, 1, "--steps", 30)
    (ours,), said = draw("--function", "lambda x, y: x**2 + 50 * square(y)", *arguments)
    (named,), _ = draw("--function", "ravine", *arguments)
    np.testing.assert_allclose(ours.path, named.path, rtol=1e-14)
    assert "the lowest seen" in said


def test_a_function_from_a_file_with_its_minimum_given(draw, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import minigrad as mg\n\ndef bowl(x, y):\n    return 1 - mg.exp(-(x - 1) ** 2 - y**2)\n")
    arguments = ("--optimizers", "Momentum", "--minimum", 1, 0, "--start", 0.5, 0.5, "--steps", 300)
    (walk,), said = draw("--function", f"{file}:bowl", *arguments)
    np.testing.assert_allclose(walk.path[-1], (1, 0), atol=1e-2)  # at a rate that was looked for
    assert "the lowest seen" not in said


def test_options_of_an_optimizer_stand_behind_its_name(draw):
    walks, _ = draw("--optimizers", "Adam", "Adam(betas=(0, 0.5))", "--lr", "Adam(betas=(0, 0.5))=0.1", "--steps", 3)
    expected = descent.follow(
        lambda params: optim.Adam(params, lr=0.1, betas=(0, 0.5)), BEALE.function, (2.0, -2.0), steps=3
    )
    np.testing.assert_array_equal(walks[2].path, expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--function", "bale"], ["'bale' is not known", "beale, rosenbrock"]),
        (["--function", "lambda x, y: (x"], ["is no Python", "never closed"]),
        (["--function", "lambda x, y: 3.0"], ["has no gradient", "minigrad's ops"]),
        (["--function", "lambda x: x"], ["positional argument", "expected a function of two Tensors"]),
        (["--function", "lambda x, y: sum(x + y)"], ["of shape (2, 3) it makes ()", "elementwise"]),
        (["--function", "nowhere.py:f"], ["there is no file nowhere.py"]),
        (["--optimizers", "Adm"], ["no optimizer 'Adm'", "did you mean Adam?"]),
        (["--optimizers", "Adam(beta=1)"], ["Adam(beta=1)", "unexpected keyword argument 'beta'"]),
        (["--optimizers", "Adam(betas=(2, 0.9))"], ["Adam: betas"]),
        (["--lr", "Adma=0.1"], ["--lr Adma=0.1", "expected NAME=RATE"]),
        (["--lr", "Adam=fast"], ["'fast' is not a number"]),
        (["--lr", "Adam=0"], ["expected a rate above 0"]),
        (["--steps", "0"], ["--steps 0: expected 1 or more"]),
        (["--tolerance", "0"], ["--tolerance 0.0: expected a number above 0"]),
        (["--out", "paths.txt"], ["ends in .png or .svg or .pdf"]),
        (["--animate", "paths.mp4"], ["ends in .gif or .html"]),
        (["--view", "1", "0", "0", "1"], ["expected LEFT < RIGHT"]),
    ],
)
def test_mistakes_are_explained(refused, arguments, words):
    said = " ".join(refused(*arguments).split())
    for word in words:
        assert word in said
    assert "Traceback" not in said


def test_a_name_that_a_file_has_not_is_answered_with_those_it_has(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def bowl(x, y):\n    return x * x + y * y\n")
    with pytest.raises(SurfaceError, match=r"no function 'bwol'; it has bowl"):
        find_surface(f"{file}:bwol")
