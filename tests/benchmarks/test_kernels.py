"""The command that times layers: what it counts, that both libraries compute the same, and that it can be stopped."""

import json

import pytest

torch = pytest.importorskip("torch")

from benchmarks import kernels, layers, networks, roofline  # noqa: E402
from benchmarks.layers import Layer  # noqa: E402
from minigrad.backend import threads  # noqa: E402

MACHINE = roofline.Machine({2**20: 10.0, 2**24: 5.0}, {"float32": 100.0, "float64": 50.0})
TINY = ["--networks", "lenet5", "--batches", "1", "--dtypes", "float32", "--ops", "conv", "max_pool", "--rounds", "1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A machine that need not be measured, and numbers of threads that stay as they are."""
    monkeypatch.setattr(roofline.Machine, "measured", classmethod(lambda cls: MACHINE))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(threads, "set_num_threads", lambda count: None)
    monkeypatch.setattr(kernels, "PAUSE", 0.0)


def rows_of(out):
    return json.loads(out.with_suffix(".json").read_text())["rows"]


# --- counting ---

CONVOLUTION = Layer("conv", (8, 10, 6), 12, (3, 3), (2, 2), (1, 1), (1, 1), 4, bias=True)


def test_bytes_and_operations_of_a_convolution():
    """12 outputs of 5x3, each from 3x3 places of 8/4 channels."""
    forward, weight = (kernels.Pass(CONVOLUTION, name, 7, "float64") for name in ("forward", "weight gradient"))
    assert forward.operations == weight.operations == 2 * 7 * 12 * 5 * 3 * 3 * 3 * 2
    assert forward.bytes == 8 * (7 * 8 * 60 + 12 * 2 * 9 + 12 + 7 * 12 * 15)
    assert weight.bytes == 8 * (7 * 8 * 60 + 12 * 2 * 9 + 7 * 12 * 15)
    assert weight.gradients == (1, 2)


def test_the_roofline_is_the_larger_of_two_times():
    assert MACHINE.seconds(2**20, 0, "float32") == pytest.approx(2**20 / 10e9)
    assert MACHINE.seconds(2**25, 0, "float32") == pytest.approx(2**25 / 5e9)
    assert MACHINE.seconds(2**20, 10**9, "float64") == pytest.approx(1 / 50)
    assert roofline.Machine.from_json(json.loads(json.dumps(MACHINE.as_json()))) == MACHINE


@pytest.mark.parametrize("copied", roofline.copies(2**12))
def test_the_copies_that_measure_bandwidth_run(copied):
    copied()
    assert 0 < roofline.best_seconds([copied], least=1, budget=0.0) < 10


def test_passes_are_those_of_training():
    names = {str(one) for one in kernels.passes_of(layers.held_out(), (5,), ("float32",), kernels.PASSES)}
    assert "conv 1->12 7x7 p3 bias first @28x28 | weight gradient | batch 5 | float32" in names
    assert "conv 1->12 7x7 p3 bias first @28x28 | input gradient | batch 5 | float32" not in names  # the images
    assert "relu 24 @48x48 | input gradient | batch 5 | float32" in names
    assert "relu 72 @20x12 | forward | batch 1 | float32" not in names  # small
    single = kernels.passes_of([Layer("batch_norm", (512, 1, 1))], (1, 2), ("float32",), ["batch_norm"])
    assert {one.batch for one in single} == {2}


def test_every_beginning_of_the_order_is_an_even_sample():
    order = kernels.evenly(list(range(1000)))
    assert sorted(order) == list(range(1000))
    for length in (16, 50, 128, 500):
        inside = sum(number < 300 for number in order[:length])
        assert abs(inside / length - 0.3) < 0.12


# --- both libraries ---


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_kind_of_pass_is_the_same_in_both(layout):
    """compare() raises where it is not."""
    found = {
        **layers.held_out(),
        Layer("concatenate", (9, 120, 120), branches=(4, 5)): {},
        Layer("add", (6, 120, 120)): {},
    }
    for one in kernels.passes_of(found, (1,), kernels.DTYPES, kernels.PASSES):
        ours, theirs = (kernels.runner(library, one, layout) for library in kernels.LIBRARIES)
        kernels.compare(one, ours, theirs)
        assert len(kernels.results_of(ours)) == max(len(one.gradients), 1)


def test_a_difference_is_found():
    one = kernels.Pass(CONVOLUTION, "forward", 1, "float32")
    ours = kernels.runner(kernels.LIBRARIES[0], one, "nhwc")
    with pytest.raises(SystemExit, match=r"conv 8->12 .* do not compute the same"):
        kernels.compare(one, ours, lambda: torch.from_numpy(ours().numpy() * 1.001))


def test_pytorch_gets_the_memory_order_that_is_faster_for_it(monkeypatch):
    one = kernels.Pass(CONVOLUTION, "forward", 1, "float32")
    monkeypatch.setattr(kernels, "runner", lambda library, one, order: order)
    monkeypatch.setattr(kernels, "seconds_of", lambda run, repeats: {"nhwc": 2.0, "nchw": 1.0}[run])
    assert kernels.faster(one, "best") == ("nchw", "nchw") and kernels.faster(one, "nhwc") == ("nhwc", "nhwc")


# --- the command ---


def test_a_tiny_run_writes_rows_and_a_summary(tmp_path, capsys):
    out = tmp_path / "new" / "tiny"
    kernels.main([*TINY, "--out", str(out)])
    rows = rows_of(out)
    assert len(rows) == 2 * 3 - 1 + 2 * 2  # two convolutions, the first without input gradient; two pools
    for row in rows:
        assert row["minigrad_ms"] > 0 and row["networks"] == {"lenet5": 1}
        assert row["share"] == pytest.approx(row["roofline_ms"] / row["minigrad_ms"])
    text = out.with_suffix(".md").read_text()
    assert "geometric mean of the ratio" in text and "The 9 worst:" in text and "| lenet5 | 9 |" in text
    assert text.splitlines()[-1] in capsys.readouterr().out


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    out, timed = tmp_path / "stopped", []

    def measure(one, *options):
        if len(timed) == 4:
            timed.append("stop")
            raise KeyboardInterrupt
        timed.append(str(one))
        return {"minigrad_ms": 1.0, "pytorch_ms": 2.0, "ratio": 2.0}

    monkeypatch.setattr(kernels, "measure", measure)
    kernels.main([*TINY, "--out", str(out)])
    assert [row["pass"] for row in rows_of(out)] == timed[:4]
    kernels.main([*TINY, "--out", str(out)])
    assert [row["pass"] for row in rows_of(out)] == timed[:4] + timed[5:] and len(set(timed)) == 10
    with pytest.raises(SystemExit, match=r"layout 'nhwc', now 'nchw'.*another --out"):
        kernels.main([*TINY, "--layout", "nchw", "--out", str(out)])


def test_seconds_end_a_run_and_nothing_need_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kernels.main([*TINY, "--seconds", "-1", "--out", ""])
    assert "No pass was timed." in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_layers_that_minigrad_lacks_are_named(capsys):
    kernels.main(["--networks", "alexnet", "--seconds", "-1", "--out", ""])
    assert "left out of alexnet: LocalResponseNorm" in capsys.readouterr().out
    assert set(networks.LEFT_OUT) <= set(networks.GRID)


def test_tiny_shares_of_the_roofline_have_a_mean():
    results = kernels.Results({}, None)
    results.machine = MACHINE
    one = kernels.Pass(Layer("mean", (1, 1, 1)), "forward", 1, "float32")
    results.add(one, {"vgg16": 1}, {"minigrad_ms": 50.0, "pytorch_ms": 9e3, "ratio": 180.0})
    assert "1 of 1 passes" in kernels.summary(list(results.rows.values()), 1, MACHINE)


def test_means_are_geometric_and_weighted_by_how_often_a_layer_occurs():
    common = {"kind": "relu", "name": "forward", "batch": 1, "dtype": "float32", "share": 0.5, "pytorch_share": 0.25}
    rows = [
        {**common, "pass": "a | b", "ratio": 4.0, "minigrad_ms": 1, "pytorch_ms": 4, "networks": {"vgg16": 2}},
        {**common, "pass": "c | d", "ratio": 0.5, "minigrad_ms": 1, "pytorch_ms": 0.5, "networks": {"alexnet": 1}},
    ]
    text = kernels.summary(rows, 9, MACHINE)
    assert "2 of 9 passes" in text and "ratio: 1.414; each layer as often as the networks have it: 2.000" in text
    worst = text[text.index("worst:") :]
    assert worst.index("c, d") < worst.index("a, b")
