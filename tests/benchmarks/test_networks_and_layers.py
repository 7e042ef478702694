"""The networks that are timed are the published ones, and the table of their layers is what PyTorch's modules say."""

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

import minigrad as mg  # noqa: E402
from benchmarks import kernels, layers, networks, train_step  # noqa: E402

PARAMETERS = {
    "lenet5": 61_706,  # LeCun et al. 1998, all maps connected
    "resnet20": 272_474,  # He et al. 2016: 0.27 M
    "resnet18": 11_173_962,  # torchvision's, with a first convolution of 3x3 and ten classes
    "mobilenetv2": 2_236_682,  # torchvision's mobilenet_v2 with ten classes
}
KINDS = {
    "Conv2d": "conv",
    "MaxPool2d": "max_pool",
    "AdaptiveAvgPool2d": "mean",
    "BatchNorm2d": "batch_norm",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Sum": "add",
    "Concatenation": "concatenate",
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_published_number_of_parameters(name):
    assert sum(p.numel() for p in networks.GRID[name](torch.nn).parameters()) == PARAMETERS[name]


def layers_of_torch(name: str) -> Counter:
    """(kind, channels and size of the input, of the output, shape of the weight) of layers as PyTorch runs them."""
    found: Counter = Counter()

    def note(module, arguments, output):
        if output.ndim == 4:
            weight = getattr(module, "weight", None)
            shapes = arguments[0].shape[1:], output.shape[1:], None if weight is None else weight.shape
            found[KINDS[type(module).__name__], *(shape and tuple(shape) for shape in shapes)] += 1

    model = networks.GRID[name](torch.nn).eval()
    for module in model.modules():
        if type(module).__name__ in KINDS:
            module.register_forward_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, *networks.image_shape(name)))
    return found


@pytest.mark.parametrize("name", networks.GRID)
def test_layers_have_the_shapes_of_pytorchs_modules(name):
    theirs: Counter = Counter()
    for (kind, image, output, weight), count in layers_of_torch(name).items():
        theirs[kind, output if kind in ("add", "concatenate") else image, output, weight] += count
    ours: Counter = Counter()
    for layer, count in layers.walk(name).items():
        weight = {"conv": layer.weight, "batch_norm": (layer.channels,)}.get(layer.kind)
        ours[layer.kind, layer.image, layer.output, weight] += count
    assert ours == theirs


def test_each_network_has_one_first_layer_and_branches_make_up_their_sum():
    found = layers.grid(list(networks.GRID))
    for name in networks.GRID:
        assert sum(counts.get(name, 0) for layer, counts in found.items() if layer.first) == 1
    assert all(sum(layer.branches) == layer.channels for layer in found if layer.kind == "concatenate")
    assert {layer.kind for layer in found} == set(kernels.PASSES)


def test_held_out_layers_and_batches_are_outside_of_the_grid():
    grid, others = layers.grid(list(networks.GRID)), layers.held_out()
    assert not {str(layer) for layer in grid} & {str(layer) for layer in others}
    assert not set(layers.HELD_OUT_BATCHES) & set(kernels.BATCHES)
    assert {layer.kind for layer in others} == set(kernels.PASSES)


def test_names_of_layers_tell_them_apart():
    found = [*layers.grid(list(networks.GRID)), *layers.held_out()]
    assert len({str(layer) for layer in found}) == len(found)


@pytest.mark.parametrize("name", networks.GRID)
def test_both_libraries_have_the_same_first_loss(name):
    ours, theirs = (train_step.Training(library, "cpu", name, batch=2).first_loss() for library in (mg, torch))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_inference_runs_in_evaluation_mode_without_a_graph():
    case = train_step.case_named("lenet5-inference-1", mg, "cpu")
    assert case.x.shape[0] == 1 and case.first_loss() == pytest.approx(
        train_step.case_named("lenet5-inference-1", torch, "cpu").first_loss(), rel=1e-4
    )
    case.step()
    assert not case.model.training and all(p.grad is None for p in case.model.parameters())
    assert {f"{name}-inference-{batch}" for name in networks.GRID for batch in (1, 128)} <= set(train_step.CASES)
    assert set(networks.GRID) <= set(train_step.CASES)
