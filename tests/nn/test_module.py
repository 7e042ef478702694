"""What a Module promises: its registers, its walks, its state, its summary.

Claimed: names are dotted paths and a shared parameter comes once; a state goes round by tensors and by arrays, and one
that does not fit names every entry and changes nothing; a summary counts what the formulas say and leaves the model
alone; and minigrad.nn is built from minigrad's public names alone. Agreement with PyTorch is in test_pytorch_peers.py.
"""

import ast
import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support.nn_makers import assert_same_snapshot, normal, snapshot, tensor


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
    copied = copy.deepcopy(net).train()
    assert copied.again is copied.body
    copied(mg.randn(5, 3)).sum().backward()
    for p in copied.parameters():
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
    first = layer.register_forward_hook(lambda module, args, out: seen.append((module, args, out)))
    second = layer.register_forward_hook(lambda module, args, out: out + 1)
    x = mg.tensor([-1.0, 2.0])
    assert layer(x).tolist() == [1, 3]
    assert seen[0][0] is layer and seen[0][1] == (x,) and seen[0][2].tolist() == [0, 2]
    first.remove(), second.remove()
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


# --- the house ---


def test_nn_is_built_from_minigrads_public_names_alone():
    allowed = {
        "minigrad",
        "__future__",
        "collections",
        "contextlib",
        "dataclasses",
        "fnmatch",
        "functools",
        "itertools",
        "math",
        "numpy",
        "os",
        "typing",
        "warnings",
    }
    for file in Path(nn.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            relative = isinstance(node, ast.ImportFrom) and node.level  # a level of 1 stays within nn
            assert relative in (False, 0, 1), file
            names = [node.module] if isinstance(node, ast.ImportFrom) and not relative else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.partition(".")[0] in allowed - {"minigrad"} or name == "minigrad", (file, name)
    public = set(mg.__all__) if hasattr(mg, "__all__") else {n for n in dir(mg) if not n.startswith("_")}
    for file in Path(nn.__file__).parent.glob("*.py"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mg"
        }
        assert used <= public, (file, used - public)


def test_modules_may_stand_a_hundred_deep_in_one_another_and_no_deeper():
    """So deep they can still be called, copied and shown, which Python's limit of calls would end sooner or later."""
    model = nn.Linear(1, 1)
    for _ in range(99):
        model = nn.Sequential(model)
    assert model(mg.ones(1, 1)).shape == (1, 1) and len(copy.deepcopy(model).state_dict()) == 2 and repr(model)
    with pytest.raises(ValueError, match=r"Sequential\.0: .*more than 100 levels deep.*side by side"):
        nn.Sequential(model)
    assert len(nn.Sequential(*[nn.ReLU() for _ in range(2000)])) == 2000


# --- layers that nobody registered ---


class Listed(nn.Module):
    """Keeps its layers in what is given."""

    def __init__(self, keep):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.kept = keep([nn.Linear(2, 3), nn.Linear(3, 2)])

    def forward(self, x):
        return self.first(x)


PLAIN = {
    "list": list,
    "tuple": tuple,
    "dict": lambda layers: {"a": layers[0], "b": layers[1]},
    "nested": lambda layers: [[layers[0]], {"b": [layers[1]]}],
    "parameters": lambda layers: [layers[0].weight, layers[1].weight],
}


@pytest.mark.parametrize("kind", PLAIN)
def test_layers_in_a_plain_list_are_told_of_where_parameters_are_asked_for_and_in_the_summary(kind):
    model = nn.Sequential(nn.Linear(2, 2), Listed(PLAIN[kind]))
    with pytest.warns(UserWarning, match=r"1\.kept is a (list|tuple|dict) that holds 2 of .*nn\.ModuleList"):
        names = [name for name, _ in model.named_parameters()]
    assert names == ["0.weight", "0.bias", "1.first.weight", "1.first.bias"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        list(model.parameters())
        assert "1.kept is a" in str(model.summary((1, 2)))
    fresh = Listed(PLAIN[kind])
    with pytest.warns(UserWarning, match="kept"):
        mg.optim.SGD(fresh.parameters(), lr=0.1)


def test_a_list_that_is_filled_later_is_seen_too():
    model = Listed(lambda layers: [])
    list(model.parameters())
    model.kept.append(nn.Linear(2, 2))
    with pytest.warns(UserWarning, match="kept is a list that holds 1 of Linear"):
        list(model.parameters())


@pytest.mark.parametrize(
    "keep", [nn.ModuleList, lambda layers: [1, "a", mg.ones(2), [3], {}], lambda layers: (2, 3), lambda layers: {}]
)
def test_lists_of_other_things_and_registered_layers_are_not_told_of(keep):
    model = Listed(keep)
    model.also = [model.first, model.first.weight]  # a second way to a registered one
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(model.parameters())
        assert model.unregistered() == [] and "not registered" not in str(model.summary((1, 2)))


@pytest.mark.parametrize("state", [None, 3, [1], "net.safetensors", Path("net.safetensors"), nn.Linear(2, 2)])
def test_what_is_no_state_dict_is_refused(state):
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="load_state_dict: expected a dict of names and Tensors"):
        model.load_state_dict(state)


@pytest.mark.parametrize("wrong", ["text", None, object(), [[1.0], [2.0, 3.0]], np.array([1j]), np.array(["a"])])
def test_an_entry_that_is_no_array_changes_nothing(wrong):
    model = nn.Linear(2, 2)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    state = {"weight": np.ones((2, 2)), "bias": wrong}
    with pytest.raises((TypeError, ValueError), match="load_state_dict"):
        model.load_state_dict(state)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
