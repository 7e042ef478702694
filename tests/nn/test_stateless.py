"""functional_call: a call with other tensors in the places of the model's own, which are back afterwards."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ShapeError, checkpoint, nn
from minigrad.nn import functional_call
from tests.support.transform_makers import T, close


class Net(nn.Module):
    """Two linear layers, the second used twice, and a running count; with `recompute` the first half checkpointed."""

    def __init__(self, recompute=False):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4).double(), nn.Linear(4, 4).double()
        self.register_buffer("offset", T([1, 2, 3, 4]))
        self.recompute, self.fails = recompute, False

    def forward(self, x, *, scale=1.0):
        half = checkpoint(self.half) if self.recompute else self.half
        return self.second(half(x)) * scale + self.offset

    def half(self, x):
        if self.fails:
            raise KeyError("mine")
        return mg.tanh(self.second(mg.tanh(self.first(x))))


@pytest.fixture
def net():
    mg.manual_seed(0)
    return Net()


@pytest.fixture
def x(random):
    return T(random.standard_normal((5, 3)))


def own(net):
    return {name: p.detach() for name, p in net.named_parameters()}


def others(net, random):
    return {name: T(random.standard_normal(p.shape)) for name, p in net.named_parameters()}


def by_hand(tensors, x):
    hidden = mg.tanh(x @ tensors["first.weight"].T + tensors["first.bias"])
    for activation in (mg.tanh, lambda y: y):
        hidden = activation(hidden @ tensors["second.weight"].T + tensors["second.bias"])
    return hidden + tensors.get("offset", T([1, 2, 3, 4]))


def untouched(net, before):
    for path, module, name, value in before:
        assert getattr(module, name) is value, path
        assert module._parameters.get(name, module._buffers.get(name)) is value, path


def places(net):
    return [
        (f"{path}.{name}", module, name, value)
        for path, module in net.named_modules()
        for name, value in (*module._parameters.items(), *module._buffers.items())
    ]


def test_with_its_own_tensors_it_is_the_call_of_the_module(net, x):
    for tensors in ({}, own(net), net.state_dict(), dict(net.named_parameters())):
        close(functional_call(net, tensors, x), net(x))
    close(functional_call(net, {}, (x,), {"scale": 2.0}), net(x, scale=2.0))
    close(functional_call(net, own(net), kwargs={"x": x, "scale": 3.0}), net(x, scale=3.0))


def test_given_tensors_take_the_places_of_parameters_and_buffers_and_give_them_back(net, x, random):
    before = places(net)
    tensors = others(net, random) | {"offset": T([0, 5, 0, 5])}
    close(functional_call(net, tensors, x), by_hand(tensors, x))
    untouched(net, before)
    some = {name: tensors[name] for name in ("first.bias", "offset")}
    close(functional_call(net, some, x), by_hand(own(net) | some, x), what="those left out stay the module's own")
    untouched(net, before)
    as_arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    close(functional_call(net, as_arrays, x), by_hand(tensors, x))


def test_a_module_sees_the_given_tensors_in_its_registers_too(net, random):
    tensors = others(net, random)
    net.forward = lambda: sum((p**2).sum() for p in net.parameters())
    close(functional_call(net, tensors), sum((t**2).sum() for t in tensors.values()))


def test_after_an_error_the_module_has_its_own_back(net, x, random):
    before = places(net)
    net.fails = True
    with pytest.raises(KeyError, match="mine"):
        functional_call(net, others(net, random), x)
    untouched(net, before)
    net.fails = False
    close(functional_call(net, {}, x), net(x))


def test_calls_nest(net, x, random):
    outer, inner = others(net, random), others(net, random)
    plain = type(net).half.__get__(net)

    def half(x):
        net.half = plain
        within = functional_call(net, inner, x[:1])
        close(within, by_hand(inner, x[:1]))
        return plain(x)

    net.half = half
    close(functional_call(net, outer, x), by_hand(outer, x))


def test_names_and_shapes_that_the_module_does_not_have_are_refused(net, x):
    before = places(net)
    with pytest.raises(KeyError, match=r"Net has no \['first.w', 'third'\]; it has \[.*'first.bias'.*'offset'"):
        functional_call(net, {"third": T(1), "first.w": T(1), "offset": T(np.zeros(4))}, x)
    with pytest.raises(ShapeError, match=r"'first.weight' of Net has shape \(4, 3\), given was \(3, 4\)"):
        functional_call(net, {"first.weight": T(np.zeros((3, 4)))}, x)
    untouched(net, before)


def test_a_shared_tensor_comes_under_any_of_its_names(x, random):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = nn.Linear(3, 3, bias=False).double(), nn.Linear(3, 3, bias=False).double()
            self.decode.weight = self.encode.weight
            self.again = self.encode

        def forward(self, x):
            return self.again(self.decode(self.encode(x)))

    tied, weight = Tied(), T(random.standard_normal((3, 3)))
    thrice = x @ weight.T @ weight.T @ weight.T
    for name in ("encode.weight", "decode.weight", "again.weight"):
        close(functional_call(tied, {name: weight}, x), thrice, what=name)
    close(functional_call(tied, tied.state_dict(), x), tied(x))
    close(functional_call(tied, {"encode.weight": weight, "decode.weight": weight}, x), thrice)
    with pytest.raises(ValueError, match=r"'decode.weight' is shared, and was given other values under another name"):
        functional_call(tied, {"encode.weight": weight, "decode.weight": weight * 2}, x)
    assert tied.decode.weight is tied.encode.weight


# --- derivatives ---


def test_gradients_by_the_given_tensors_are_those_that_backward_leaves_on_the_parameters(net, x):
    (net(x) ** 2).sum().backward()
    gradient = mg.grad(lambda tensors: (functional_call(net, tensors, x) ** 2).sum())(own(net))
    close(gradient, {name: p.grad for name, p in net.named_parameters()})
    net.zero_grad()
    mg.grad(lambda tensors: (functional_call(net, tensors, x) ** 2).sum())(dict(net.named_parameters()))
    assert all(p.grad is None for p in net.parameters())


def test_gradients_for_each_example_are_those_of_a_loop(net, x):
    def loss(tensors, x):
        return (functional_call(net, tensors, x[None]) ** 2).sum()

    each = mg.vmap(mg.grad(loss), in_axes=(None, 0))(own(net), x)
    for i in range(len(x)):
        close({name: g[i] for name, g in each.items()}, mg.grad(loss)(own(net), x[i]))


def test_an_ensemble_is_a_vmap_over_the_tensors(net, x, random):
    members = [others(net, random) for _ in range(3)]
    stacked = {name: mg.stack([member[name] for member in members]) for name in members[0]}
    together = mg.vmap(lambda tensors: functional_call(net, tensors, x))(stacked)
    close(together, mg.stack([by_hand(member, x) for member in members]))


@pytest.mark.parametrize("derive", [mg.grad, mg.hessian, lambda f: mg.vmap(mg.grad(f))])
def test_a_checkpoint_inside_the_model_sees_the_given_tensors_in_its_second_run_too(net, x, random, derive):
    """By then the call is over and the module has its own tensors back, which have other values."""
    recomputing = Net(recompute=True)
    tensors = others(net, random)
    if derive not in (mg.grad, mg.hessian):
        tensors = {name: mg.stack([t, -t]) for name, t in tensors.items()}
    if derive is mg.hessian:
        tensors = {"second.bias": tensors["second.bias"]}
        recomputing.load_state_dict(net.state_dict())
    found, expected = (
        derive(lambda tensors, net=net: (functional_call(net, tensors, x) ** 2).sum())(tensors)
        for net in (recomputing, net)
    )
    close(found, expected, 1e-9)


def test_batch_statistics_go_into_the_given_buffers(random):
    norm = nn.BatchNorm2d(2).double()
    images = T(random.standard_normal((3, 2, 4, 4)))
    given = {"running_mean": T([0, 0]), "running_var": T([1, 1])}
    functional_call(norm, given, images)
    close(norm.running_mean, np.zeros(2))
    close(given["running_mean"], 0.1 * images.mean(axis=(0, 2, 3)))
    close(functional_call(norm.eval(), given | {"weight": T([2, 2])}, images), functional_call(norm, given, images) * 2)
