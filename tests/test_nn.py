"""minigrad.nn by itself: what modules promise, and the mathematics that layers and losses must obey.

Agreement with PyTorch is in test_nn_peers.py. Here: the registers and walks of Module; derivatives against finite
differences; identities (a transposed convolution is the adjoint, a class weight of 2 is a sample seen twice, ...); and
that wrong input is refused in words that help.
"""

import ast
import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import gradcheck, gradgradcheck, nn

RNG = np.random.default_rng(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def tensor(array, requires_grad=False):
    return mg.tensor(array, dtype=np.float64, requires_grad=requires_grad)


def snapshot(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def assert_same_snapshot(before, after):
    assert list(before) == list(after)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


class Net(nn.Module):
    """A module with every kind of entry: a list, a parameter of its own, buffers saved and not, a shared layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(4, 2, bias=False), nn.Linear(4, 2)])
        self.scale = nn.Parameter(mg.ones(1))
        self.register_buffer("steps", mg.tensor(7))
        self.register_buffer("cache", mg.zeros(2), persistent=False)
        self.again = self.body

    def forward(self, x):
        h = self.body(x)
        return sum(head(h) for head in self.heads) * self.scale


# --- modules: registers and walks ---


def test_names_are_dotted_paths_and_each_parameter_comes_once():
    net = Net()
    names = ["scale", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]
    names += ["heads.0.weight", "heads.1.weight", "heads.1.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert len({id(p) for p in net.parameters()}) == len(names)
    assert [name for name, _ in net.named_parameters(recurse=False)] == ["scale"]
    statistics = [f"body.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")]
    assert [name for name, _ in net.named_buffers()] == ["steps", "cache", *statistics]
    modules = ["", "body", "body.0", "body.1", "body.2", "heads", "heads.0", "heads.1"]
    assert [name for name, _ in net.named_modules()] == modules
    assert [name for name, _ in net.named_children()] == ["body", "heads"]


def test_a_parameter_is_a_plain_attribute_and_the_register_holds_the_same_object():
    layer = nn.Linear(2, 3)
    for module in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert vars(module)["weight"] is module._parameters["weight"] is module.weight
        assert isinstance(module.weight, nn.Parameter)
        np.testing.assert_array_equal(module.weight.numpy(), layer.weight.numpy())


def test_assignment_replaces_and_deletion_forgets():
    layer = nn.Linear(2, 3)
    new = nn.Parameter(mg.ones(3, 2))
    layer.weight = new
    assert next(layer.parameters()) is new
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    np.testing.assert_array_equal(layer(mg.ones(1, 2)).numpy(), [[2, 2, 2]])
    layer.bias = nn.Parameter(mg.ones(3))
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.extra = nn.ReLU()
    layer.extra = nn.Parameter(mg.ones(1))  # another kind under the same name
    assert not list(layer.children())
    assert "extra" in layer.state_dict()
    del layer.extra
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert not hasattr(layer, "extra")
    norm = nn.BatchNorm1d(2)
    norm.running_mean = mg.ones(2)
    assert norm.state_dict()["running_mean"].tolist() == [1, 1]


def test_parameters_carry_their_path_as_name_for_pictures_and_keep_it():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 1))
    names = ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert [p.name for p in net.parameters()] == names
    net.to(np.float64).requires_grad_(False).requires_grad_(True)
    assert [p.name for p in net.parameters()] == names


def test_a_copy_shares_nothing():
    net = Net()
    before = snapshot(net)
    twin = copy.deepcopy(net).train()
    assert twin.again is twin.body
    twin(mg.randn(5, 3)).sum().backward()
    for p in twin.parameters():
        p.copy_(p.detach() + 1)
    assert_same_snapshot(before, snapshot(net))
    assert all(p.grad is None for p in net.parameters())


def test_train_eval_freeze_and_zero_grad_reach_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    net(mg.randn(5, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.body.requires_grad_(False)
    net(mg.randn(5, 3)).sum().backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} == {
        "scale",
        "heads.0.weight",
        "heads.1.weight",
        "heads.1.bias",
    }


def test_apply_visits_children_before_parents():
    order = []
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    assert net.apply(lambda m: order.append(type(m).__name__)) is net
    assert order == ["ReLU", "Tanh", "Sequential", "Sequential"]


def test_to_a_dtype_converts_floats_in_place_and_leaves_integers():
    net = Net()
    parameters = list(net.parameters())
    assert net.to("float64") is net
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True)), "an optimizer would lose them"
    kinds = {name: value.dtype for name, value in net.state_dict().items()}
    assert {str(kind) for name, kind in kinds.items() if not name.endswith(("steps", "tracked"))} == {"float64"}
    assert kinds["steps"] == kinds["body.1.num_batches_tracked"] == np.int64
    assert net(tensor(normal(4, 3))).dtype == np.float64
    assert net.to("cpu", np.float32).scale.dtype == np.float32
    assert net.double().scale.dtype == np.float64 and net.float().cpu().scale.dtype == np.float32
    with pytest.raises(TypeError, match="floating point"):
        net.to(np.int64)


def test_a_forward_hook_sees_and_may_replace_the_output_until_it_is_removed():
    layer, seen = nn.ReLU(), []
    remove_first = layer.register_forward_hook(lambda module, args, out: seen.append((module, args, out)))
    remove_second = layer.register_forward_hook(lambda module, args, out: out + 1)
    x = mg.tensor([-1.0, 2.0])
    assert layer(x).tolist() == [1, 3]
    assert seen[0][0] is layer and seen[0][1] == (x,) and seen[0][2].tolist() == [0, 2]
    remove_first(), remove_second()
    assert layer(x).tolist() == [0, 2]
    assert len(seen) == 1


def test_containers_are_lists_of_modules():
    a, b, c, d = (nn.Linear(1, 1) for _ in range(4))
    chain = nn.Sequential(a, b)
    assert chain.append(c) is chain
    assert chain.insert(1, d) is chain
    assert [*chain] == [a, d, b, c] and len(chain) == 4 and chain[-1] is c and chain[1] is d
    assert [*chain[1:3]] == [d, b] and type(chain[1:3]) is nn.Sequential
    del chain[0]
    chain[0] = a
    assert [*chain] == [a, b, c]
    assert [name for name, _ in chain.named_children()] == ["0", "1", "2"]
    named = nn.Sequential({"first": a, "second": b})
    assert named.second is b and list(named[1:].state_dict()) == ["second.weight", "second.bias"]
    kept = nn.ModuleList([a]).extend([b, c])
    assert type(kept[:2]) is nn.ModuleList and [*kept[:2]] == [a, b]
    x = mg.ones(1, 1)
    np.testing.assert_array_equal(chain(x).numpy(), c(b(a(x))).numpy())


# --- state ---


def test_a_state_goes_round_by_tensors_and_by_arrays_without_the_buffers_that_are_not_saved():
    source, by_tensor, by_array = Net(), Net(), Net()
    source(mg.randn(6, 3))
    state = source.state_dict()
    assert "cache" not in state and "again.0.weight" in state
    by_tensor.load_state_dict(state)
    by_array.load_state_dict({name: value.numpy().astype(np.float64) for name, value in state.items()})
    for net in (by_tensor, by_array):
        assert_same_snapshot(snapshot(source), snapshot(net))
        assert net.scale.dtype == np.float32


def test_a_state_shares_memory_and_records_nothing():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    nn.init.zeros_(layer.weight)
    assert not state["weight"].numpy().any()
    assert not state["weight"].requires_grad


def test_loading_what_does_not_fit_names_every_entry_and_changes_nothing():
    net = Net()
    before = snapshot(net)
    state = {name: value + 1 for name, value in snapshot(net).items()}
    state["heads.1.weight"] = np.zeros((3, 4))
    state["body.0.bias"] = np.zeros(5)
    del state["scale"], state["body.1.weight"]
    state |= {"head.weight": np.zeros(1), "extra": np.zeros(1)}
    with pytest.raises(ValueError) as error:
        net.load_state_dict(state)
    for entry in ("heads.1.weight: given (3, 4), expected (2, 4)", "body.0.bias: given (5,), expected (4,)"):
        assert entry in str(error.value)
    for entry in ("scale", "body.1.weight", "head.weight", "extra"):
        assert f"\n    {entry}" in str(error.value)
    assert_same_snapshot(before, snapshot(net))
    with pytest.raises(ValueError, match="expected") as error:
        net.load_state_dict(state, strict=False)
    assert "head.weight" not in str(error.value)
    assert_same_snapshot(before, snapshot(net))


def test_loading_loosely_takes_what_fits_and_tells_the_rest():
    layer = nn.Linear(2, 1)
    bias = layer.bias.tolist()
    result = layer.load_state_dict({"weight": np.float32([[1, 2]]), "other": np.zeros(3)}, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["other"]
    assert layer.weight.tolist() == [[1, 2]] and layer.bias.tolist() == bias


def test_a_graph_made_before_loading_refuses_to_go_back():
    layer = nn.Linear(2, 2)
    x = mg.randn(3, 2, requires_grad=True)
    y = layer(x).sum()
    layer.load_state_dict(nn.Linear(2, 2).state_dict())
    with pytest.raises(mg.GradientError):
        y.backward()


def test_a_parameter_tied_into_two_layers_is_one_parameter_under_two_names_of_the_state():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    net = nn.Sequential(a, b)
    assert [name for name, _ in net.named_parameters()] == ["0.weight"]
    assert list(net.state_dict()) == ["0.weight", "1.weight"]
    assert net.summary((1, 2)).parameters == sum(row.parameters for row in net.summary((1, 2)).rows) == 4
    before = a.weight.data
    net.to(np.float64)
    assert a.weight is b.weight and a.weight.dtype == np.float64 and a.weight.data is not before


# --- summary and repr ---


def test_the_summary_counts_what_the_formulas_say_and_leaves_the_model_alone():
    model = nn.lenet5(image_size=32, batch_norm=True)
    model.fc1.eval()
    before = snapshot(model)
    summary = model.summary((2, 1, 32, 32))
    by_name = {row.name: row for row in summary.rows}
    assert summary.parameters == 61_706 + 2 * (6 + 16)  # LeNet-5's own, and the batch-norms'
    assert by_name["conv2"].multiply_adds == 2 * 10 * 10 * 16 * 6 * 5 * 5
    assert by_name["fc1"].multiply_adds == 2 * 400 * 120
    assert by_name["pool2"].output_shapes == [(2, 16, 5, 5)]
    assert summary.multiply_adds == sum(row.multiply_adds for row in summary.rows)
    table = str(summary)
    for part in ("conv2: Conv2d", "(2, 16, 10, 10)", "480,000", "2,416", "61,750 parameters"):
        assert part in table
    assert_same_snapshot(before, snapshot(model))
    assert [m.training for m in model.modules()] == [m is not model.fc1 for m in model.modules()]
    assert not any(m._forward_hooks for m in model.modules())


def test_the_summary_counts_calls_of_a_shared_layer_and_takes_tensors_and_dtypes():
    shared = nn.Linear(4, 4, bias=False)
    twice = nn.Sequential(shared, nn.ReLU(), shared)
    found = twice.summary(mg.ones(3, 4))
    assert found.parameters == 16 and found.multiply_adds == 2 * 3 * 16
    words = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    words[0].requires_grad_(False)
    found = words.summary((2, 7), dtype="int64")
    assert found.rows[-1].output_shapes == [(2, 7, 2)] and found.trainable == found.parameters - 40
    deconvolution = nn.ConvTranspose2d(3, 2, 3, stride=2)
    assert deconvolution.summary((1, 3, 5, 5)).multiply_adds == 25 * 3 * 2 * 9
    with pytest.raises(TypeError, match="shape such as"):
        twice.summary("images")


def test_the_summary_puts_everything_back_when_the_model_fails():
    model = nn.cnn()
    with pytest.raises(mg.ShapeError):
        model.summary((1, 1, 8, 8))
    assert all(m.training and not m._forward_hooks for m in model.modules())


def test_a_repr_nests_its_modules():
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n    (0): ReLU()\n  )\n)"
    )
    assert repr(nn.Parameter([1.0])).startswith("Parameter containing:\ntensor([1.]")


# --- derivatives ---

CHECKED_LAYERS = {
    "Linear": (lambda: nn.Linear(3, 2), (4, 3)),
    "Conv1d": (lambda: nn.Conv1d(2, 4, 3, 2, 1, groups=2), (2, 2, 7)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), (1, 2), padding=(1, 0)), (2, 2, 4, 5)),
    "Conv2d, even kernel, same": (lambda: nn.Conv2d(1, 2, 2, padding="same", bias=False), (2, 1, 3, 4)),
    "Conv2d, reflected": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), (1, 1, 4, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, 2, 1, 1), (2, 2, 3, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), (3, 2, 2, 2)),
    "BatchNorm2d in evaluation": (lambda: nn.BatchNorm2d(2).eval(), (3, 2, 2, 2)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, 1, 1), (1, 2, 4, 4)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 2, 5, 5)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 2, 5, 4)),
    "ReLU": (nn.ReLU, (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), (3, 4)),
    "ELU": (nn.ELU, (3, 4)),
    "GELU": (nn.GELU, (3, 4)),
    "GELU by tanh": (lambda: nn.GELU("tanh"), (3, 4)),
    "SiLU": (nn.SiLU, (3, 4)),
    "Tanh": (nn.Tanh, (3, 4)),
    "Sigmoid": (nn.Sigmoid, (3, 4)),
    "Softplus": (lambda: nn.Softplus(2.0), (3, 4)),
    "Softmax": (lambda: nn.Softmax(1), (3, 4)),
    "LogSoftmax": (lambda: nn.LogSoftmax(0), (3, 4)),
    "lenet5": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), (2, 1, 6, 6)),
}


def with_parameters(module, names, values):
    """Let the module compute with other tensors in the place of its parameters, so that they can be differentiated."""
    for path, value in zip(names, values, strict=True):
        *parents, name = path.split(".")
        owner = module
        for parent in parents:
            owner = getattr(owner, parent)
        vars(owner)[name] = value
    return module


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("name", CHECKED_LAYERS)
def test_a_layers_derivatives_in_its_input_and_parameters(name, check):
    make, shape = CHECKED_LAYERS[name]
    mg.manual_seed(1)
    layer = make().to(np.float64)
    names = [path for path, _ in layer.named_parameters()]
    parameters = [tensor(p.numpy() + 0.1, requires_grad=True) for p in layer.parameters()]
    x = tensor(normal(*shape), requires_grad=True)
    assert check(lambda x, *values: with_parameters(layer, names, values)(x), [x, *parameters])


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("padding_idx", [None, 1])
def test_an_embeddings_derivatives(padding_idx, check):
    layer = nn.Embedding(4, 3, padding_idx).to(np.float64)
    indices = mg.tensor([[0, 2], [2, 3]])
    table = tensor(normal(4, 3), requires_grad=True)
    assert check(lambda table: mg.square(with_parameters(layer, ["weight"], [table])(indices)), [table])


LABELS = mg.tensor([2, 0, 1, 2])
CLASS_WEIGHT = tensor([0.5, 2.0, 1.25])
CHECKED_LOSSES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), LABELS),
    "CrossEntropyLoss, all options": (
        nn.CrossEntropyLoss(CLASS_WEIGHT, ignore_index=0, label_smoothing=0.2),
        LABELS,
    ),
    "CrossEntropyLoss of probabilities": (nn.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.2), "chances"),
    "NLLLoss": (nn.NLLLoss(CLASS_WEIGHT, ignore_index=0), LABELS),
    "MultiMarginLoss": (nn.MultiMarginLoss(weight=CLASS_WEIGHT), LABELS),
    "MultiMarginLoss squared": (nn.MultiMarginLoss(2, 0.7), LABELS),
    "MSELoss": (nn.MSELoss(), "numbers"),
    "L1Loss": (nn.L1Loss(reduction="sum"), "numbers"),
    "HuberLoss": (nn.HuberLoss(delta=0.6), "numbers"),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=0.6), "numbers"),
    "BCELoss": (nn.BCELoss(CLASS_WEIGHT), "chances"),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), "chances"),
    "BCEWithLogitsLoss, weighed": (nn.BCEWithLogitsLoss(CLASS_WEIGHT, pos_weight=CLASS_WEIGHT * 2), "chances"),
}


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("name", CHECKED_LOSSES)
def test_a_losss_derivatives_in_its_input_and_its_target(name, check):
    loss, target = CHECKED_LOSSES[name]
    chances = np.random.default_rng(1).uniform(0.1, 0.9, (2, 4, 3))
    x = tensor(chances[0] if name == "BCELoss" else normal(4, 3), requires_grad=True)
    if target is LABELS:
        assert check(lambda x: loss(x, LABELS), [x])
    else:
        target = tensor(chances[1] if target == "chances" else normal(4, 3, seed=1), requires_grad=True)
        assert check(loss, [x, target])


# --- layers: what they must obey ---


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(1, 2),
    st.tuples(st.integers(5, 8), st.integers(5, 8)),
)
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(kernel, stride, padding, dilation, groups, size):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": False}
    conv = nn.Conv2d(2, 4, kernel, **options).to(np.float64)
    x = tensor(normal(2, 2, *size))
    y = conv(x)
    left_over = tuple((n + 2 * padding - dilation * (k - 1) - 1) % stride for n, k in zip(size, kernel, strict=True))
    back = nn.ConvTranspose2d(4, 2, kernel, output_padding=left_over, **options)
    back.weight = nn.Parameter(conv.weight.detach())
    z = tensor(normal(*y.shape, seed=1))
    assert (y * z).sum().item() == pytest.approx((x * back(z)).sum().item())


@given(st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_same_padding_keeps_the_size_of_the_image(kernel, dilation, reflected):
    mode = "circular" if reflected else "zeros"
    conv = nn.Conv2d(1, 1, kernel, padding="same", dilation=dilation, padding_mode=mode)
    assert conv(mg.ones(1, 1, 12, 13)).shape == (1, 1, 12, 13)
    line = nn.Conv1d(1, 1, kernel, padding="same", dilation=dilation, padding_mode=mode)
    assert line(mg.ones(1, 1, 13)).shape == (1, 1, 13)


def test_the_average_at_the_border_counts_the_padding_or_does_not():
    image = mg.ones(1, 1, 4, 4)
    assert np.all(nn.AvgPool2d(3, 1, 1, count_include_pad=False)(image).numpy() == 1)
    np.testing.assert_allclose(nn.AvgPool2d(3, 1, 1)(image).numpy()[0, 0, 0], [4 / 9, 6 / 9, 6 / 9, 4 / 9], rtol=1e-6)


def test_softplus_is_the_identity_beyond_its_threshold_and_smooth_before():
    x = np.float32([-3, 0, 0.9, 1.1, 30])
    found = nn.Softplus(beta=2.0, threshold=2.0)(mg.tensor(x)).numpy()
    np.testing.assert_allclose(found, np.where(x > 1, x, np.log1p(np.exp(2 * np.minimum(x, 1))) / 2), rtol=1e-6)
    assert nn.Softplus()(mg.tensor(x)).numpy()[4] == 30


@given(st.integers(2, 6), st.integers(1, 3), st.sampled_from([(), (3,), (2, 3)]), st.floats(-3, 3), st.floats(0.2, 5))
def test_batch_norm_undoes_shift_and_scale(n, channels, rest, shift, scale):
    layer = (nn.BatchNorm2d if len(rest) == 2 else nn.BatchNorm1d)(channels, eps=1e-12, affine=False).to(np.float64)
    x = normal(n, channels, *rest)
    y = layer(tensor(x)).numpy()
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(axis=axes), 1, rtol=1e-6)
    np.testing.assert_allclose(layer(tensor(x * scale + shift)).numpy(), y, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, 0.75, 1.0, None])
def test_running_statistics_average_unbiased_over_the_batches(momentum):
    layer = nn.BatchNorm2d(2, momentum=momentum).to(np.float64)
    mean, variance = np.zeros(2), np.ones(2)
    for i in range(1, 4):
        x = 2 * normal(3, 2, 2, 2, seed=i) + 1
        layer(tensor(x))
        share = 1 / i if momentum is None else momentum
        mean += share * (x.mean(axis=(0, 2, 3)) - mean)
        variance += share * (x.var(axis=(0, 2, 3), ddof=1) - variance)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean)
    np.testing.assert_allclose(layer.running_var.numpy(), variance)
    assert layer.num_batches_tracked.item() == 3
    expected = (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    np.testing.assert_allclose(layer.eval()(tensor(x)).numpy(), expected)
    assert layer.num_batches_tracked.item() == 3, "evaluation counts no batch"


def test_buffers_are_updated_in_place_and_differentiating_twice_counts_a_batch_once():
    layer = nn.BatchNorm1d(3)
    kept = layer.running_mean.data
    x = mg.tensor(normal(5, 3), dtype=np.float32, requires_grad=True)
    (gradient,) = mg.autograd.grad(mg.square(layer(x)).sum() + x.sum(), x, create_graph=True)
    gradient.sum().backward()
    assert layer.num_batches_tracked.item() == 1
    np.testing.assert_allclose(kept, 0.1 * x.detach().numpy().mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", nn.MODELS)
def test_in_evaluation_a_sample_does_not_see_the_rest_of_its_batch(name):
    mg.manual_seed(0)
    make, shape = {
        "mlp": (lambda: nn.mlp(12, 3), (5, 3, 4)),
        "lenet5": (lambda: nn.lenet5(image_size=8, batch_norm=True), (5, 1, 8, 8)),
        "cnn": (lambda: nn.cnn(2, 3, dropout=0.5), (5, 2, 8, 9)),
    }[name]
    model = make()
    x = mg.randn(*shape)
    model(x)
    with mg.no_grad():
        model.eval()
        np.testing.assert_allclose(model(x).numpy()[1:3], model(x[1:3]).numpy(), rtol=1e-4, atol=1e-5)


@given(st.floats(0, 0.9))
def test_dropout_keeps_the_expectation_repeats_with_the_seed_and_rests_in_evaluation(p):
    layer = nn.Dropout(p)
    x = mg.ones(100, 200, requires_grad=True)
    mg.manual_seed(3)
    y = layer(x)
    mg.manual_seed(3)
    np.testing.assert_array_equal(y.numpy(), layer(x).numpy())
    assert abs(y.numpy().mean() - 1) < 5 * np.sqrt(p / (1 - p) / x.size) + 1e-6
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert layer.eval()(x) is x


def test_an_embeddings_padding_row_starts_at_zero_and_stays():
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert not layer.weight.numpy()[4].any() and layer.weight.numpy()[:4].all()
    layer.load_state_dict({"weight": np.ones((5, 3), np.float32)})
    y = layer(mg.tensor([4, 1, 4]))
    assert y.tolist() == np.ones((3, 3)).tolist(), "a loaded row is looked up as it is"
    y.sum().backward()
    assert layer.weight.grad.numpy().sum(axis=1).tolist() == [0, 3, 0, 0, 0]


# --- losses: what they must obey ---

scores_and_labels = st.tuples(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99)).map(
    lambda case: (
        3 * normal(case[0], case[1], seed=case[2]),
        np.random.default_rng(case[2]).integers(0, case[1], case[0]),
    )
)


def test_cross_entropy_of_rows_is_the_fused_op_and_its_mean():
    loss = nn.CrossEntropyLoss()(mg.randn(4, 3, requires_grad=True), mg.tensor([0, 1, 2, 1]))
    assert loss.grad_fn.op.name == "mean"
    assert loss.grad_fn.parents[0].op.name == "softmax_cross_entropy"
    assert loss.grad_fn.parents[0].parents[0].op is None, "nothing stands between the scores and the loss"


@given(scores_and_labels, st.floats(-50, 50))
def test_cross_entropy_is_minus_the_log_of_the_labels_share_and_ignores_a_shift(case, shift):
    x, labels = case
    share = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    expected = -np.log(share[np.arange(len(x)), labels])
    for scores in (x, x + shift):
        found = nn.CrossEntropyLoss(reduction="none")(tensor(scores), mg.tensor(labels))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
    logarithms = nn.LogSoftmax(1)(tensor(x))
    np.testing.assert_allclose(nn.NLLLoss(reduction="none")(logarithms, labels).numpy(), expected, atol=1e-12)


@given(scores_and_labels, st.floats(0, 1))
def test_label_smoothing_is_cross_entropy_against_the_smoothed_truth(case, smoothing):
    x, labels = case
    weight = np.arange(1.0, x.shape[1] + 1)
    truth = np.eye(x.shape[1])[labels]
    smooth = truth * (1 - smoothing) + smoothing / x.shape[1]
    found = nn.CrossEntropyLoss(label_smoothing=smoothing)(tensor(x), labels).item()
    assert found == pytest.approx(nn.CrossEntropyLoss()(tensor(x), tensor(smooth)).item())
    assert found == pytest.approx(nn.CrossEntropyLoss(label_smoothing=smoothing)(tensor(x), tensor(truth)).item())
    weighed = nn.CrossEntropyLoss(weight, label_smoothing=smoothing, reduction="sum")(tensor(x), labels).item()
    assert weighed == pytest.approx(nn.CrossEntropyLoss(weight, reduction="sum")(tensor(x), tensor(smooth)).item())


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss])
@given(scores_and_labels)
def test_a_class_weight_of_two_is_a_sample_seen_twice_and_of_zero_one_left_out(loss, case):
    x, labels = case
    weight = np.arange(x.shape[1]) % 3
    repeats = weight[labels]
    if not repeats.any():
        return
    found = loss(weight)(tensor(x), labels).item()
    assert found == pytest.approx(loss()(tensor(np.repeat(x, repeats, axis=0)), np.repeat(labels, repeats)).item())


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss])
@given(scores_and_labels, st.sampled_from([-100, 0, 255]))
def test_an_ignored_label_is_a_row_left_out_in_value_and_gradient(loss, case, ignored):
    x, labels = case
    kept = np.arange(len(x)) % 2 == 0
    labels = np.where(labels == 0, 1, labels) if ignored == 0 else labels
    marked = np.where(kept, labels, ignored)
    x[~kept, 0] = -np.inf  # what is ignored may hold anything
    whole, part = tensor(x, requires_grad=True), tensor(x[kept], requires_grad=True)
    a, b = loss(ignore_index=ignored)(whole, marked), loss()(part, labels[kept])
    assert a.item() == pytest.approx(b.item())
    a.backward(), b.backward()
    np.testing.assert_allclose(whole.grad.numpy()[kept], part.grad.numpy(), atol=1e-12)
    assert not whole.grad.numpy()[~kept].any()


def test_losses_of_images_are_those_of_their_pixels_and_of_a_single_row_those_of_a_batch_of_one():
    x, labels = normal(2, 4, 3, 2), np.random.default_rng(0).integers(0, 4, (2, 3, 2))
    for loss in (nn.CrossEntropyLoss, nn.NLLLoss):
        whole = loss(reduction="none")(tensor(x), labels).numpy()
        for n, i, j in np.ndindex(whole.shape):
            one = loss()(tensor(x[n, :, i, j]), labels[n, i, j])
            assert one.shape == () and one.item() == pytest.approx(whole[n, i, j])


@given(scores_and_labels, st.sampled_from([1, 2]), st.floats(0, 3))
def test_the_multiclass_hinge_is_its_formula(case, p, margin):
    x, labels = case
    expected = [
        sum(max(0, margin - row[y] + row[j]) ** p for j in range(len(row)) if j != y) / len(row)
        for row, y in zip(x, labels, strict=True)
    ]
    found = nn.MultiMarginLoss(p, margin, reduction="none")(tensor(x), labels)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@given(st.floats(0.1, 3), st.floats(-5, 5))
def test_huber_is_half_the_square_near_and_a_line_of_slope_delta_far(delta, d):
    x = tensor([d], requires_grad=True)
    loss = nn.HuberLoss(delta=delta)(x, tensor([0.0]))
    loss.backward()
    expected = d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)
    assert loss.item() == pytest.approx(expected)
    assert x.grad.item() == pytest.approx(np.clip(d, -delta, delta))
    assert nn.SmoothL1Loss(beta=delta)(x, tensor([0.0])).item() == pytest.approx(expected / delta)


def test_extreme_scores_and_probabilities_have_finite_losses_and_gradients():
    x = mg.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    truth = mg.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    p = mg.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]], requires_grad=True)
    losses = [
        nn.CrossEntropyLoss()(x, mg.tensor([1, 0])),
        nn.CrossEntropyLoss(label_smoothing=0.1)(x, mg.tensor([1, 0])),
        nn.BCEWithLogitsLoss()(x, truth),
        nn.BCEWithLogitsLoss(pos_weight=[1.0, 2.0, 3.0])(x, truth),
        nn.BCELoss()(p, truth),
    ]
    for loss in losses:
        x.grad = p.grad = None
        loss.backward()
        gradient = x.grad if x.grad is not None else p.grad
        assert np.isfinite(loss.item()) and np.isfinite(gradient.numpy()).all()
    assert nn.BCELoss(reduction="none")(p, truth).tolist()[0] == [0, 0, 100], "the logarithm ends at -100"
    np.testing.assert_allclose(p.grad.numpy(), np.array([[0, 0, -1], [0, 0, 1]]) * 1e12 / 6, rtol=1e-6)


@given(st.floats(-30, 30), st.floats(0, 1))
def test_scores_and_probabilities_have_the_same_binary_cross_entropy(score, truth):
    x, t = tensor([score]), tensor([truth])
    found = nn.BCEWithLogitsLoss()(x, t).item()
    assert found == pytest.approx(nn.BCELoss()(nn.Sigmoid()(x), t).item(), rel=1e-3, abs=1e-9)
    weighed = nn.BCEWithLogitsLoss(pos_weight=[1.0])(x, t).item()
    assert found == pytest.approx(weighed, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_labels_may_be_integers_of_any_size(loss, dtype):
    x, labels = tensor(normal(3, 4)), [3, 0, 2]
    expected = loss()(x, mg.tensor(labels)).item()
    assert loss()(x, mg.tensor(labels, dtype=dtype)).item() == expected


def test_integer_targets_of_regression_keep_the_dtype_of_the_scores():
    loss = nn.MSELoss()(mg.tensor([1.0, 2.0]), mg.tensor([1, 0]))
    assert loss.dtype == np.float32 and loss.item() == 2
    assert nn.BCEWithLogitsLoss()(mg.tensor([0.0]), mg.tensor([1])).dtype == np.float32


# --- initialisation ---


def test_initialisers_work_in_place_return_their_tensor_and_repeat_with_the_seed():
    for draw in (
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.orthogonal_,
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
    ):
        weight = nn.Parameter(mg.zeros(6, 5))
        memory = weight.data
        mg.manual_seed(4)
        assert draw(weight) is weight and weight.data is memory and weight.requires_grad and weight.is_leaf
        first = weight.numpy().copy()
        assert len(np.unique(first)) == 30, f"{draw.__name__} draws every element"
        mg.manual_seed(4)
        np.testing.assert_array_equal(draw(weight).numpy(), first)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.5, 2))
def test_an_orthogonal_matrix_has_orthonormal_rows_or_columns(rows, columns, gain):
    w = nn.init.orthogonal_(mg.zeros(rows, columns, dtype=np.float64), gain).numpy()
    product = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=1e-12)


def test_kaiming_keeps_a_signal_alive_through_thirty_rectified_layers_where_xavier_does_not():
    mg.manual_seed(0)
    strength = {}
    for name in ("kaiming_normal_", "kaiming_uniform_", "xavier_normal_"):
        options = {"nonlinearity": "relu"} if name.startswith("kaiming") else {}
        x = mg.randn(64, 256)
        for _ in range(30):
            x = mg.relu(x @ getattr(nn.init, name)(mg.zeros(256, 256), **options).T)
        strength[name] = mg.square(x).mean().item()
    assert 0.05 < strength["kaiming_normal_"] < 20 and 0.05 < strength["kaiming_uniform_"] < 20
    assert strength["xavier_normal_"] < 1e-6, "each layer halves it: 2^-30"


def test_fan_in_keeps_a_signal_on_its_way_forward_and_fan_out_its_gradient_backward():
    mg.manual_seed(0)
    x, g = mg.randn(500, 100), mg.randn(500, 400)
    forward = nn.init.kaiming_normal_(mg.zeros(400, 100), nonlinearity="linear")
    backward = nn.init.kaiming_normal_(mg.zeros(400, 100), nonlinearity="linear", mode="fan_out")
    assert mg.std(x @ forward.T).item() == pytest.approx(1, rel=0.05)
    assert mg.std(g @ backward).item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    "layer, fan_in",
    [
        (nn.Linear(50, 40), 50),
        (nn.Conv1d(8, 20, 5, groups=2), 20),
        (nn.Conv2d(8, 20, 3), 72),
        (nn.ConvTranspose2d(8, 20, 3), 180),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_new_layers_fill_the_interval_of_one_over_the_root_of_fan_in(layer, fan_in):
    for parameter in layer.parameters():
        assert 0.75 < np.abs(parameter.numpy()).max() * np.sqrt(fan_in) <= 1


def test_trunc_normal_stays_inside_and_eye_passes_on():
    values = nn.init.trunc_normal_(mg.zeros(2000), 1.0, 2.0, 0.5, 1.5).numpy()
    assert values.min() >= 0.5 and values.max() <= 1.5 and abs(values.mean() - 1) < 0.03
    assert len(np.unique(values)) > 1990, "drawn again, not moved to the ends"
    assert nn.init.eye_(mg.ones(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.constant_(mg.zeros(2), 0.5).tolist() == [0.5, 0.5]


def test_a_new_model_repeats_with_the_seed():
    mg.manual_seed(5)
    first = snapshot(nn.cnn())
    mg.manual_seed(5)
    assert_same_snapshot(first, snapshot(nn.cnn()))
    assert not np.array_equal(first["conv1.weight"], snapshot(nn.cnn())["conv1.weight"])


# --- models ---


@pytest.mark.parametrize("name", nn.MODELS)
def test_a_model_learns_eight_images_by_heart(name):
    mg.manual_seed(0)
    arguments = {"mlp": (64, 4), "lenet5": (1, 4, 8), "cnn": (1, 4, 0.0)}[name]
    model = nn.MODELS[name](*arguments)
    x, labels = mg.randn(8, 1, 8, 8), mg.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    loss_of, losses = nn.CrossEntropyLoss(), []
    for _ in range(80):
        model.zero_grad()
        loss = loss_of(model(x), labels)
        loss.backward()
        losses.append(loss.item())
        for p in model.parameters():
            p.copy_(p.detach() - 0.2 * p.grad)
    assert losses[0] > 1 and losses[-1] < 0.2, losses[::10]


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_lenet5_fits_the_image_sizes_it_names(size, batch_norm):
    assert nn.lenet5(3, 7, size, batch_norm)(mg.randn(2, 3, size, size)).shape == (2, 7)


# --- errors: what was given, what was expected, what to do ---

LABELLED = mg.tensor(normal(3, 4), dtype=np.float32)


class Forgetful(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(1, 1)


class ForgetfulButFunctional(nn.Module):
    def __init__(self):
        self.size = 3


class Shadowing(nn.Module):
    def __init__(self):
        super().__init__()
        self.modules = nn.ModuleList()


def assigned(name, value):
    layer = nn.Linear(1, 1)
    setattr(layer, name, value)


def loss_of(loss, x, target):
    return lambda: loss(mg.as_tensor(x), target)


MISTAKES = {
    "super().__init__() forgotten": (Forgetful, AttributeError, "super.*__init__.*Forgetful"),
    "and noticed on a walk": (lambda: list(ForgetfulButFunctional().parameters()), AttributeError, "super.*first"),
    "a name that hides a method": (Shadowing, AttributeError, "'modules' of its own"),
    "a plain tensor for a parameter": (lambda: assigned("weight", mg.ones(1, 1)), TypeError, r"Parameter\(tensor\)"),
    "an array for a parameter": (lambda: assigned("weight", np.ones((1, 1))), TypeError, "Linear.weight.*ndarray"),
    "a dotted name": (lambda: nn.Module().register_buffer("a.b", mg.ones(1)), ValueError, "'a.b'.*without dots"),
    "an array as buffer": (lambda: nn.Module().register_buffer("a", np.ones(1)), TypeError, "ndarray.*mg.tensor"),
    "an attribute that is not there": (lambda: nn.Linear(1, 1).wieght, AttributeError, "'Linear'.*'wieght'"),
    "no forward": (lambda: nn.Module()(1), NotImplementedError, "no forward"),
    "an integer parameter": (lambda: nn.Parameter([1, 2]), TypeError, "int64"),
    "train with a number": (lambda: nn.ReLU().train(1), ValueError, "True or False"),
    "a class for a layer": (lambda: nn.Sequential(nn.ReLU), TypeError, r"class ReLU.*ReLU\(\)"),
    "a list for a layer": (lambda: nn.Sequential([nn.ReLU()]), TypeError, "entry 0.*list.*unpack"),
    "no such layer": (lambda: nn.Sequential(nn.ReLU())[3], IndexError, "no module 3; it holds 1"),
    "state of no array": (lambda: nn.Linear(1, 1).load_state_dict({"weight": "x"}), TypeError, "'weight'"),
    "features that do not fit": (lambda: nn.Linear(3, 2)(mg.ones(4, 5)), mg.ShapeError, r"\(4, 5\).*size 3"),
    "doubles for floats": (lambda: nn.Linear(3, 2)(tensor(normal(1, 3))), TypeError, "float64.*float32.*astype"),
    "bytes as images": (lambda: nn.Conv2d(1, 1, 1)(mg.zeros(1, 1, 2, 2, dtype="u1")), TypeError, "uint8.*astype"),
    "a list as input": (lambda: nn.Linear(1, 1)([1.0]), TypeError, "list.*tensor"),
    "no features": (lambda: nn.Linear(0, 1), ValueError, "in_features=0"),
    "other channels": (lambda: nn.Conv2d(3, 4, 3)(mg.ones(1, 1, 8, 8)), mg.ShapeError, r"\(N, 3, H, W\).*3 channels"),
    "a kernel larger than the image": (lambda: nn.Conv2d(1, 1, 5)(mg.ones(1, 1, 4, 9)), mg.ShapeError, "larger"),
    "a window larger than the image": (lambda: nn.MaxPool2d(3)(mg.ones(1, 1, 2, 9)), mg.ShapeError, "larger"),
    "groups that do not divide": (lambda: nn.Conv2d(3, 4, 1, groups=2), ValueError, "in_channels=3.*groups=2"),
    "a kernel of three sides": (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ValueError, "kernel_size=.*or 2 of them"),
    "a negative padding": (lambda: nn.Conv1d(1, 1, 3, padding=-1), ValueError, "padding=-1"),
    "strided same": (lambda: nn.Conv2d(1, 1, 3, 2, padding="same"), ValueError, "stride 1"),
    "padding by a word": (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError, "'full'.*'same'"),
    "a padding mode": (lambda: nn.Conv2d(1, 1, 3, padding_mode="mirror"), ValueError, "'mirror'.*reflect"),
    "a transposed padding mode": (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), ValueError, "zeros"),
    "ceil_mode": (lambda: nn.MaxPool2d(2, ceil_mode=True), ValueError, "ceil_mode=True is not supported"),
    "a flat image for batch-norm": (lambda: nn.BatchNorm2d(3)(mg.ones(2, 3)), mg.ShapeError, r"\(N, 3, H, W\)"),
    "a batch of one": (lambda: nn.BatchNorm1d(3)(mg.ones(1, 3)), mg.ShapeError, "single value.*eval"),
    "a momentum of two": (lambda: nn.BatchNorm1d(3, momentum=2), ValueError, "momentum=2"),
    "dropping twice": (lambda: nn.Dropout(1.5), ValueError, "p=1.5"),
    "no such row": (lambda: nn.Embedding(3, 2)(mg.tensor([0, 3])), IndexError, "3.*0 to 2"),
    "a fractional row": (lambda: nn.Embedding(3, 2)(mg.tensor([0.5])), TypeError, "float32"),
    "no such padding row": (lambda: nn.Embedding(3, 2, 3), ValueError, "padding_idx=3"),
    "a vector flattened": (lambda: nn.Flatten()(mg.ones(3)), mg.ShapeError, "batch axis missing"),
    "softmax over nothing": (lambda: nn.Softmax(None), TypeError, "dim=1"),
    "gelu by another name": (lambda: nn.GELU("erf"), ValueError, "'erf'.*'tanh'"),
    "a label too large": (
        loss_of(nn.CrossEntropyLoss(), LABELLED, [0, 4, 1]),
        IndexError,
        "label 4.*4 classes.*0 to 3",
    ),
    "a label below zero": (loss_of(nn.CrossEntropyLoss(), LABELLED, [0, -1, 1]), IndexError, "label -1.*0 to 3"),
    "a wrong beside an ignored label": (loss_of(nn.NLLLoss(), LABELLED, [0, -100, 7]), IndexError, "label 7"),
    "no margin to such a label": (loss_of(nn.MultiMarginLoss(), LABELLED, [0, -100, 1]), IndexError, "label -100"),
    "labels of floats": (loss_of(nn.CrossEntropyLoss(), LABELLED, [0.0, 1.0, 2.0]), TypeError, "float32.*int64"),
    "labels of bools": (loss_of(nn.NLLLoss(), LABELLED, [True, False, True]), TypeError, "bool.*integers"),
    "one-hot labels": (loss_of(nn.CrossEntropyLoss(), LABELLED, np.eye(3, 4, dtype=int)), ValueError, "argmax"),
    "too few labels": (loss_of(nn.CrossEntropyLoss(), LABELLED, [0, 1]), mg.ShapeError, r"\(3, 4\).*\(2,\)"),
    "an empty batch": (
        loss_of(nn.CrossEntropyLoss(), mg.zeros(0, 4), np.zeros(0, int)),
        ValueError,
        "empty batch",
    ),
    "an empty batch of numbers": (loss_of(nn.MSELoss(), mg.zeros(0, 4), mg.zeros(0, 4)), ValueError, "empty batch"),
    "everything ignored": (loss_of(nn.CrossEntropyLoss(), LABELLED, [-100] * 3), ValueError, "every label is ignored"),
    "weights of other classes": (
        loss_of(nn.CrossEntropyLoss([1.0, 2.0]), LABELLED, [0, 1, 2]),
        mg.ShapeError,
        r"\(2,\).*\(4,\)",
    ),
    "ignoring a probability": (
        loss_of(nn.CrossEntropyLoss(ignore_index=1), LABELLED, mg.ones(3, 4)),
        ValueError,
        "ignore_index=1",
    ),
    "smoothing by two": (lambda: nn.CrossEntropyLoss(label_smoothing=2.0), ValueError, "label_smoothing=2.0"),
    "a reduction": (lambda: nn.MSELoss(reduction="average"), ValueError, "'average'.*'mean', 'sum' or 'none'"),
    "scores for probabilities": (
        loss_of(nn.BCELoss(), mg.tensor([0.5, 1.5]), mg.ones(2)),
        ValueError,
        "1.5.*between 0 and 1.*logits",
    ),
    "a target of two": (loss_of(nn.BCELoss(), mg.tensor([0.5]), mg.tensor([2.0])), ValueError, "target.*2"),
    "not a number": (loss_of(nn.BCELoss(), mg.tensor([float("nan")]), mg.ones(1)), ValueError, "nan"),
    "a column against a row": (loss_of(nn.MSELoss(), mg.ones(3, 1), mg.ones(3)), mg.ShapeError, r"\(3, 1\).*squeeze"),
    "a weight that does not fit": (
        loss_of(nn.BCEWithLogitsLoss([1.0, 2.0]), mg.ones(3), mg.ones(3)),
        mg.ShapeError,
        r"\(2,\).*\(3,\)",
    ),
    "a cube for the hinge": (loss_of(nn.MultiMarginLoss(), LABELLED, [0, 1]), mg.ShapeError, r"\(3, 4\)"),
    "a hinge to the third": (lambda: nn.MultiMarginLoss(p=3), ValueError, "p=3.*1 or 2"),
    "no delta": (lambda: nn.HuberLoss(delta=0), ValueError, "delta=0"),
    "a gain of swish": (lambda: nn.init.calculate_gain("swish"), ValueError, "'swish'.*leaky_relu"),
    "a fan of a vector": (lambda: nn.init.xavier_normal_(mg.zeros(3)), mg.ShapeError, r"\(3,\).*\(out, in\)"),
    "a fan of a third kind": (lambda: nn.init.kaiming_normal_(mg.zeros(3, 3), mode="fan"), ValueError, "'fan_in'"),
    "an interval far out": (lambda: nn.init.trunc_normal_(mg.zeros(3), 0, 1, 8, 9), ValueError, "uniform_"),
    "uniform backwards": (lambda: nn.init.uniform_(mg.zeros(3), 1, 0), ValueError, "a=1.*b=0"),
    "a spread below zero": (lambda: nn.init.normal_(mg.zeros(3), 0, -1), ValueError, "std=-1"),
    "an image for LeNet": (lambda: nn.lenet5(image_size=64), ValueError, "64.*8, 28, 32.*cnn"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_was_given_and_what_to_do(mistake):
    call, kind, words = MISTAKES[mistake]
    with pytest.raises(kind, match=f"(?s){words}"):
        call()


# --- the house ---


def test_nn_is_built_from_minigrads_public_names_alone():
    allowed = {
        "minigrad",
        "__future__",
        "collections",
        "contextlib",
        "dataclasses",
        "itertools",
        "math",
        "numpy",
        "typing",
    }
    for file in Path(nn.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                inside = name.startswith("minigrad.nn")
                assert inside or name.partition(".")[0] in allowed - {"minigrad"} or name == "minigrad", (file, name)
    public = set(mg.__all__) if hasattr(mg, "__all__") else {n for n in dir(mg) if not n.startswith("_")}
    for file in Path(nn.__file__).parent.glob("*.py"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mg"
        }
        assert used <= public, (file, used - public)
