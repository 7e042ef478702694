"""Everything on a stand-in for the GPU that refuses what CuPy refuses: no silent copies, no names that CuPy lacks."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import DeviceError, graph
from minigrad.autograd import calls
from minigrad.backend import libraries
from tests.support import strict_backend
from tests.support.device_agreement import (
    LAYERS,
    OPTIMIZERS,
    assert_layer_agrees,
    assert_op_agrees,
    assert_training_agrees,
    assert_vmap_agrees,
    dtypes_of,
    every_op,
    small_cnn,
    training_steps,
)
from tests.support.op_cases import CASES
from tests.support.strict_backend import StrictArray, traffic

xp = strict_backend.namespace


@pytest.fixture
def cuda():
    with strict_backend.installed():
        traffic.clear()
        yield "cuda"


def on_device(*shape):
    return StrictArray(np.arange(float(np.prod(shape))).reshape(shape).copy())


# --- the engine on it ---


@pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in every_op()])
@settings(max_examples=max(settings.default.max_examples // 4, 2))
@given(data=st.data())
def test_every_op_gives_the_cpus_values_and_gradients_on_the_device(key, data):
    with strict_backend.installed():
        assert_op_agrees(key, data.draw(CASES[key].calls), data.draw(st.sampled_from(dtypes_of(key))), "cuda")


@pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in every_op()])
@settings(max_examples=max(settings.default.max_examples // 12, 2))
@given(data=st.data())
def test_vmap_gives_the_cpus_values_and_gradients_on_the_device(key, data):
    with strict_backend.installed():
        assert_vmap_agrees(key, data.draw(CASES[key].calls), "cuda")


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_losses_give_the_cpus_values_and_gradients_on_the_device(cuda, name):
    assert_layer_agrees(name, cuda)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_steps_lead_where_the_cpus_lead(cuda, optimizer):
    assert_training_agrees(optimizer, cuda)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_step_never_waits_for_the_device_and_copies_nothing(cuda, optimizer):
    steps = training_steps(optimizer, cuda)
    next(steps)  # the first step makes the optimizer's buffers
    traffic.clear()
    next(steps)
    assert not traffic, f"a step moved data or waited: {dict(traffic)}"


def test_dropout_draws_its_mask_on_the_device(cuda):
    x = mg.ones(1000, device=cuda, requires_grad=True)
    mg.rand(1, device=cuda)  # makes the generator
    traffic.clear()
    mg.dropout(x, 0.4).sum().backward()
    assert not traffic
    assert 300 < (x.grad.numpy() == 0).sum() < 500


def test_all_names_of_a_device_draw_from_one_stream(cuda):
    mg.manual_seed(0)
    first, second = mg.rand(4, device="cuda").numpy(), mg.rand(4, device="cuda:0").numpy()
    assert (first != second).all()


def test_random_numbers_are_drawn_on_the_device_and_repeat_from_a_seed(cuda):
    for draw in (mg.rand, mg.randn):
        for dtype in ("float16", "float32", "float64"):
            mg.manual_seed(1)
            first = draw(3, 2, dtype=dtype, device=cuda)
            mg.manual_seed(1)
            assert first.device == "cuda:0" and first.dtype == dtype
            np.testing.assert_array_equal(draw(3, 2, dtype=dtype, device=cuda).numpy(), first.numpy())
    assert mg.randint(0, 5, (4,), device=cuda).device == "cuda:0"


@pytest.mark.parametrize(
    "make", [mg.zeros_like, mg.ones_like, mg.rand_like, mg.randn_like, lambda x: mg.full_like(x, 3)]
)
def test_what_is_made_like_a_tensor_lies_on_its_device(cuda, make):
    assert make(mg.ones(2, device=cuda)).device == "cuda:0"


def test_gradients_come_back_through_a_move(cuda):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x.to(cuda) * 3).to("cpu").sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])


def test_tensors_of_two_devices_do_not_mix(cuda, monkeypatch):
    monkeypatch.setattr(calls, "LIBRARIES", (*calls.LIBRARIES, "tests"))  # the stand-in is no user's function
    here, there = mg.ones(2), mg.ones(2, device=cuda)
    for mixed in (lambda: here * there, lambda: there + here, lambda: mg.maximum(here, there), lambda: here @ there):
        with pytest.raises(DeviceError, match=r"lie on cpu and cuda:0; move them to one device first"):
            mixed()


def test_numbers_and_numpy_scalars_stand_beside_device_tensors(cuda):
    x = mg.ones(2, device=cuda)
    for number in (2, 2.0, np.float32(2)):
        assert (x * number).device == (number * x).device == "cuda:0"
        assert (x * number).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64


def test_a_masked_read_waits_for_the_device_and_a_slice_does_not(cuda):
    x = mg.tensor([1.0, -2.0, 3.0], device=cuda)
    traffic.clear()
    x[1:], x[0], x[..., None]
    assert not traffic
    x[x > 0]
    assert traffic == {"mask": 1}


def test_integers_are_added_at_an_index(cuda):
    for dtype in ("int8", "int32", "int64", "uint8"):
        x = mg.tensor([1, 2, 3], dtype=dtype, device=cuda)
        added = mg.index_add(x, [0, 0, 2], mg.tensor([5, 6, 7], dtype=dtype, device=cuda))
        assert added.dtype == dtype and added.tolist() == [12, 2, 10]


def test_saved_state_goes_from_device_to_device(cuda):
    there, here = small_cnn().to(cuda), small_cnn()
    here.load_state_dict(there.state_dict())
    there.load_state_dict(here.state_dict())
    assert all(tensor.device == "cuda:0" for tensor in there.state_dict().values())


def test_a_tensor_on_the_device_can_be_shown_and_drawn(cuda):
    x = mg.tensor([1.0, 2.0], device=cuda, requires_grad=True)
    assert repr(x) == "tensor([1., 2.], dtype=float32, device='cuda:0', requires_grad=True)"
    assert "[1, 2]" in graph.draw((x * x).sum(), values=True).source


# --- the stand-in itself: what it refuses ---


REFUSED = {
    "NumPy on the right": lambda a: a + np.ones(3),
    "NumPy on the left": lambda a: np.ones(3) + a,
    "a list": lambda a: a + [1.0, 2.0, 3.0],
    "in place": lambda a: a.__iadd__(np.ones(3)),
    "a NumPy function": lambda a: np.exp(a),
    "a NumPy reduction": lambda a: np.sum(a),
    "a NumPy conversion": lambda a: np.asarray(a),
    "a ufunc given NumPy": lambda a: xp.multiply(a, np.ones(3)),
    "a function given NumPy": lambda a: xp.concatenate([a, np.ones(3)]),
    "a function given only NumPy": lambda a: xp.sum(np.ones(3)),
    "an index of NumPy": lambda a: a[np.array([0, 1])],
    "an index of a list": lambda a: a[[0, 1]],
    "writing NumPy": lambda a: a.__setitem__(slice(None), np.ones(3)),
    "where of a Python bool": lambda a: xp.where(True, a, a),
    "a keyword CuPy lacks": lambda a: a.sum(initial=1.0),
    "a keyword its function lacks": lambda a: xp.max(a, initial=1.0),
    "a keyword its ufuncs lack": lambda a: xp.add(a, a, order="C"),
    "adding int64 atomically": lambda a: xp.add.at(a.astype(np.int64), (xp.arange(2),), 1),
    "an index made of a 0-d array": lambda a: range(3)[xp.argmax(a)],
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_stand_in_refuses(what):
    with pytest.raises(TypeError):
        REFUSED[what](on_device(3))


def test_the_stand_in_has_no_objects_and_no_other_sorts():
    with pytest.raises(ValueError, match="Unsupported dtype object"):
        xp.array([None, 1])
    with pytest.raises(ValueError, match="'stable'"):
        xp.argsort(on_device(3), kind="quicksort")


@pytest.mark.parametrize("name", ["errstate", "frompyfunc", "nditer", "insert", "special_functions"])
def test_the_namespace_lacks_what_cupy_lacks(name):
    with pytest.raises(AttributeError, match="cupy"):
        getattr(xp, name)


def test_the_random_generator_lacks_what_cupys_lacks():
    for name in ("permutation", "shuffle", "normal", "choice"):
        with pytest.raises(AttributeError, match="CuPy"):
            getattr(xp.random.default_rng(0), name)


def test_results_are_arrays_and_waiting_for_them_is_counted():
    a = on_device(3)
    traffic.clear()
    total = a.sum()
    assert isinstance(total, StrictArray) and total.shape == () and isinstance(a[0], StrictArray)
    assert isinstance(a @ a, StrictArray) and isinstance(total + 1, StrictArray)
    assert not traffic
    assert (float(total), int(total), bool(total), total.item()) == (3.0, 3, True, 3.0)
    assert traffic == {"float": 1, "int": 1, "bool": 1, "item": 1}


def test_numpy_scalars_are_typed_and_python_numbers_are_not():
    a = on_device(3).astype(np.float32)
    assert (a * 2.0).dtype == (2.0 * a).dtype == (a * np.float32(2)).dtype == np.float32
    assert (a * np.float64(2)).dtype == (np.float64(2) * a).dtype == np.float64


def test_views_share_memory_and_have_a_base():
    a = on_device(4)
    a[1:][0] = 7.0
    assert a.get().tolist() == [0, 7, 2, 3]
    assert a.base is None and a[1:].base is not None and a.copy().base is None


def test_the_list_of_names_is_cupys():
    """Where CuPy is installed, with a GPU or without; the list is written by tests/support/collect_cupy_names.py."""
    pytest.importorskip("cupy", reason="CuPy is not installed; the list cannot be compared with it")
    from tests.support.collect_cupy_names import collected

    theirs = {line.split(" ")[1] for line in collected()}
    assert set(strict_backend.names()) <= theirs, "CuPy has lost names: run python tests/support/collect_cupy_names.py"


# --- without a GPU ---


@pytest.fixture
def no_cupy(monkeypatch):
    libraries.cupy_backend.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    yield
    libraries.cupy_backend.cache_clear()


@pytest.fixture
def cupy_without_gpu(monkeypatch):
    """CuPy as it is on a machine with no driver: importable, and failing when asked for devices."""

    def fail():
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

    runtime = SimpleNamespace(getDeviceCount=fail)
    libraries.cupy_backend.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    yield
    libraries.cupy_backend.cache_clear()


ASKING = {
    "zeros": lambda: mg.zeros(2, device="cuda"),
    "tensor": lambda: mg.tensor([1.0], device="cuda:0"),
    "to": lambda: mg.ones(2).to("cuda"),
    "cuda": lambda: mg.ones(2).cuda(),
    "rand": lambda: mg.rand(2, device="cuda"),
    "module": lambda: small_cnn().to("cuda"),
}


@pytest.mark.parametrize("asking", ASKING)
def test_asking_for_cuda_without_cupy_says_what_to_install(no_cupy, asking):
    with pytest.raises(DeviceError, match=r"needs CuPy, which is not installed.*pip install \"minigrad\[cuda1[23]\]"):
        ASKING[asking]()
    assert not mg.cuda_is_available()


@pytest.mark.parametrize("asking", ASKING)
def test_asking_for_cuda_without_a_gpu_says_so(cupy_without_gpu, asking):
    with pytest.raises(DeviceError, match=r"finds no GPU \(cudaErrorInsufficientDriver.*device=\"cpu\""):
        ASKING[asking]()
    assert not mg.cuda_is_available()


def test_devices_that_are_not_there_are_named(cuda):
    assert mg.cuda_is_available()
    with pytest.raises(DeviceError, match=r"no device 'cuda:3': this machine has 1 GPU"):
        mg.ones(2).to("cuda:3")
    with pytest.raises(DeviceError, match="expected 'cpu', 'cuda' or 'cuda:<number>'"):
        mg.ones(2, device="gpu")
