"""The examples on second-order methods: each in its quick form, and what each says it shows.

The numbers of the long runs stand in docs/fitting_models.md; here is what must hold in any run, whatever the machine.
"""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("fit_mlp", "logistic_regression", "full_batch_digits", "curve_fit", "bundle_adjustment")
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def example():
    """An example as a module, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module
        for name in NAMES:
            sys.modules.pop(name, None)


# --- a network by least squares ---


def test_lm_reaches_a_loss_in_far_fewer_steps_than_adam(example):
    (traces,) = example("fit_mlp").main(["--quick", "--patience", "4"])
    ours = traces.pop("LM")
    assert ours[-1][1] <= 1e-3 and len(ours) < 200
    for name, trace in traces.items():
        steps = next((i for i, (_, loss) in enumerate(trace) if loss <= 1e-3), len(trace))
        assert steps > 5 * len(ours), name


def test_the_way_of_lm_never_rises_and_its_clock_never_goes_back(example):
    (traces,) = example("fit_mlp").main(["--quick", "--patience", "0.1"])
    seconds, losses = np.array(traces["LM"]).T
    assert (np.diff(seconds) > 0).all() and (np.diff(losses) <= 0).all()


def test_what_lm_learnt_holds_between_the_points_too_and_the_model_has_it(example):
    module = example("fit_mlp")
    x = mg.tensor(np.linspace(-1, 1, 200)[:, None])
    model = module.network(0)
    trace = module.run_lm(model, x, module.curve(x), target=1e-4)
    between = (x[1:] + x[:-1]) / 2
    for places, most in ((x, 1e-4), (between, 2e-4)):
        with mg.no_grad():
            error = ((model(places) - module.curve(places)) ** 2).mean().item()
        assert error <= most
    assert trace[-1][1] <= 1e-4


def test_adam_has_no_more_time_than_it_is_given_and_ends_at_the_target(example):
    module = example("fit_mlp")
    x = mg.tensor(np.linspace(-1, 1, 200)[:, None])
    trace = module.run_adam(module.network(0), x, module.curve(x), 1e-2, target=0.0, budget=0.2)
    assert trace[-2][0] <= 0.2
    trace = module.run_adam(module.network(0), x, module.curve(x), 1e-2, target=0.5, budget=60.0)
    assert trace[-1][1] <= 0.5 < min(loss for _, loss in trace[:-1])


def test_loss_over_seconds_is_a_picture(example, tmp_path):
    pytest.importorskip("matplotlib")
    example("fit_mlp").main(["--quick", "--patience", "0.1", "--plot", str(tmp_path / "loss.png")])
    assert (tmp_path / "loss.png").read_bytes()[:4] == PNG


# --- logistic regression ---


def test_second_order_finds_the_one_lowest_loss_and_first_order_comes_near_from_above(example, capsys):
    ways = example("logistic_regression").main(["--quick"])
    printed = capsys.readouterr().out
    ends = {name: way[-1].loss for name, way in ways.items()}
    exact = [ends.pop(name) for name in ("L-BFGS", "Newton", "Newton-CG")]
    assert np.ptp(exact) < 1e-9
    assert len(ends) == 2 and all(exact[0] + 1e-6 < loss < exact[0] + 1 for loss in ends.values())
    assert len(ways["Newton"]) < len(ways["L-BFGS"]) / 5
    for name in ways:
        assert re.search(rf"^{re.escape(name)} .* (9\d|8\d)\.\d\d%$", printed, re.MULTILINE), name


def test_the_lowest_loss_is_scikit_learns(example):
    linear_model = pytest.importorskip("sklearn.linear_model")
    module = example("logistic_regression")
    options = module.parse(["--quick"])
    images, labels = (part.numpy() for part in module.part_of(module.data.digits(train=True), options))
    theirs = linear_model.LogisticRegression(C=1 / (options.decay * len(labels)), tol=1e-10, max_iter=10_000)
    theirs.fit(images, labels)
    p = theirs.predict_proba(images)[np.arange(len(labels)), labels]
    lowest = -np.log(p).mean() + options.decay / 2 * (theirs.coef_**2).sum()
    ours = module.main(["--quick"])["Newton-CG"][-1].loss
    assert ours == pytest.approx(lowest, abs=1e-8)


# --- LeNet ---


def test_hessian_free_takes_far_fewer_steps_than_l_bfgs(example):
    ways = example("full_batch_digits").main(["--quick", "--steps", "80"])
    steps = {name: next((i for i, s in enumerate(way) if s.loss < 1), None) for name, way in ways.items()}
    assert steps["Hessian-free"] < 8 < steps["L-BFGS"]
    for name, way in ways.items():
        assert way[-1].loss < 2.25, name  # log 10 = 2.30 is to know nothing
        assert way[-1].passes > len(way) - 1 and way[-1].seconds > 0
    for name in ("L-BFGS", "Hessian-free"):
        assert (np.diff([sight.loss for sight in ways[name]]) <= 0).all(), name


def test_l_bfgs_on_small_batches_does_badly_where_sgd_does_well(example, capsys):
    ways = example("full_batch_digits").main(["--quick", "--mini-batches", "--passes", "30"])
    ends = {name: way[-1].loss for name, way in ways.items()}
    assert ends["L-BFGS, batches of 32"] > 3 * ends["SGD, batches of 32"]
    assert all(30 <= way[-1].passes < 40 for way in ways.values())
    assert "test accuracy" in capsys.readouterr().out


# --- curves ---


def test_the_band_holds_the_truth_as_often_as_it_says_and_robust_losses_stay_near_it(example, capsys):
    found = example("curve_fit").main(["--quick", "--repeats", "200"])
    # 200 fits: the share of a fit's points inside is all or nothing, more or less, so about 0.95 +- 0.015
    assert 0.89 < found["held"] < 0.99
    assert max(found["huber"], found["cauchy"]) < found["linear"] / 3
    printed = capsys.readouterr().out
    assert printed.count("height") == 3 and printed.count("rate") == 1


def test_a_band_is_as_wide_as_fits_to_new_measurements_spread(example):
    """The covariance's promise against the plain experiment: fit again and again, look at the curves' spread."""
    module = example("curve_fit")
    rng = np.random.default_rng(1)
    curves = []
    for _ in range(300):
        x, y = module.measured(module.Decay, rng)
        best, cov = optim.curve_fit(module.Decay.curve, x, y, p0=[1, 1, 1], sigma=0.1, absolute_sigma=True)
        curves.append(module.evaluate(module.Decay.curve, x, best))
    promised = module.band(module.Decay.curve, x, np.array(module.Decay.truth), cov).deviation
    np.testing.assert_allclose(np.std(curves, axis=0), promised, rtol=0.25)


def test_the_fits_are_a_picture(example, tmp_path):
    pytest.importorskip("matplotlib")
    example("curve_fit").main(["--quick", "--repeats", "2", "--plot", str(tmp_path / "fits.png")])
    assert (tmp_path / "fits.png").read_bytes()[:4] == PNG


# --- bundle adjustment ---


def test_cameras_and_points_come_near_the_truth_in_less_memory_than_the_matrix(example):
    found = example("bundle_adjustment").main(["--cameras", "12", "--points", "400", "--quiet"])
    before, after, truth = found["pixels"]
    assert before > 10 * truth and after < 1.05 * truth
    before, after, truth = found["points"]
    assert after < before / 10 and truth < 1e-12
    assert found["memory"] < 1024 * found["matrix"] / 5


def test_a_camera_sees_what_a_rotation_matrix_says(example):
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    module = example("bundle_adjustment")
    rng = np.random.default_rng(0)
    scene = module.make_scene(4, 5, rng)
    camera, point = np.nonzero(np.ones((4, 5)))
    turn, place, log_focal, cloud = (scene[name].numpy() for name in ("turn", "place", "log_focal", "point"))
    moved = np.einsum("nij,nj->ni", rotation.from_rotvec(turn).as_matrix()[camera], cloud[point]) + place[camera]
    expected = np.exp(log_focal)[camera] * moved[:, :2] / moved[:, 2:]
    np.testing.assert_allclose(module.project(scene, camera, point).numpy(), expected, rtol=1e-12, atol=1e-9)


def test_points_are_judged_without_regard_to_turn_place_and_size(example):
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    module = example("bundle_adjustment")
    rng = np.random.default_rng(0)
    cloud = rng.standard_normal((50, 3))
    alike = 3 * cloud @ rotation.random(random_state=0).as_matrix().T + [1, 2, 3]
    other = cloud + 0.1 * rng.standard_normal(cloud.shape)
    scenes = [{"point": mg.tensor(points)} for points in (cloud, alike, other)]
    assert module.points_off(scenes[1], scenes[0]) < 1e-12
    assert 0.02 < module.points_off(scenes[2], scenes[0]) < 0.2


# --- all of them ---


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("fit_mlp", ["--seeds", "0"], "must be above 0"),
        ("logistic_regression", ["--decay", "0"], "lowest loss lies at infinity"),
        ("bundle_adjustment", ["--seen", "2"], "expected above 0 and up to 1"),
    ],
)
def test_bad_arguments_are_explained(example, capsys, name, arguments, words):
    with pytest.raises(SystemExit):
        example(name).main(arguments)
    assert words in capsys.readouterr().err
