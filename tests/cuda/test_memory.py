"""Out of memory wherever the GPU path takes memory, and that memory stays constant over many steps.

The stand-in's books say how many bytes live arrays take. A device with less memory, or an allocator that fails at its
n-th call, provokes the error; what is computed afterwards is compared with a process that never met it.
"""

import gc
import re
from contextlib import contextmanager

import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, cuda, nn, optim
from minigrad.autograd.grad_mode import is_grad_enabled
from minigrad.backend import DeviceError
from minigrad.backend.gpu import allocation
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn.functional import cross_entropy
from tests.support import strict_backend
from tests.support.cuda import compiling, memory

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")
POOL = memory.default_pool


@pytest.fixture(autouse=True)
def on_the_stand_in(monkeypatch):
    monkeypatch.setattr(allocation, "_private", [])  # without the captured steps of other tests
    with strict_backend.installed():
        mg.manual_seed(0)
        yield


@contextmanager
def memory_left(size):
    """The device has only `size` bytes more than what arrays and captured steps take."""
    gc.collect()
    POOL.free_all_blocks()
    before = memory.TOTAL
    memory.TOTAL = before - memory.memory_info()[0] + size
    try:
        yield
    finally:
        memory.TOTAL = before


@contextmanager
def failing_at(call):
    """The pool finds no memory at this call, counted from 0; gives the number of calls so far in a list."""
    calls, theirs = [0], memory.MemoryPool._grows_for

    def grows_for(self, size):
        calls[0] += 1
        return theirs(self, size) if calls[0] <= call else False

    memory.MemoryPool._grows_for = grows_for
    try:
        yield calls
    finally:
        memory.MemoryPool._grows_for = theirs


def net():
    layers = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    return nn.Sequential(*layers).to("cuda")


def batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 1, 8, 8)).astype("f4")
    return mg.tensor(images, device="cuda"), mg.tensor(rng.integers(0, 4, size), device="cuda")


class Trainer:
    """A model, an optimizer, and one step of training; `saved()` is all that a step changes."""

    def __init__(self, make=lambda params: optim.Adam(params, lr=0.01)):
        mg.manual_seed(0)
        self.model = net()
        self.optimizer = make(self.model.parameters())

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def saved(self):
        return {name: value.numpy().copy() for name, value in self.model.state_dict().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.05, momentum=0.9),
    "adam": lambda params: optim.Adam(params, lr=0.01),
    "adagrad": lambda params: optim.Adagrad(params, lr=0.01, initial_accumulator_value=0.1),
    "nadam": lambda params: optim.NAdam(params, lr=0.01),
    "skipping": lambda params: optim.Adam(params, lr=0.01, nonfinite="skip"),
}


# --- the error ---


def test_the_message_says_what_was_asked_held_and_free_and_what_to_do():
    kept = mg.tensor(np.zeros(2**18, "f4"), device="cuda")
    with memory_left(2**20), pytest.raises(cuda.OutOfMemoryError) as caught:
        mg.ops.multiply(kept, mg.tensor(np.zeros((3, 1), "f4"), device="cuda"))
    text = str(caught.value)
    assert isinstance(caught.value, MemoryError)
    assert text.startswith("multiply: the GPU is out of memory: 3.0 MiB asked for. Out of memory allocating 3,145,728")
    assert re.search(r"\ndevice +\S+ [KMG]iB in all, \S+ \S+ free\npool +\S+ [KMG]iB held: \S+ \S+ used, ", text), text
    for advice in ("smaller batches", "micro_batches", "autocast", "cache=False", "checkpoint"):
        assert advice in text


@pytest.mark.parametrize(
    "provoke",
    [
        pytest.param(lambda: mg.zeros((2**20,), device="cuda"), id="a function that makes a tensor"),
        pytest.param(lambda: mg.tensor(np.zeros(2**20), device="cuda"), id="an upload"),
        pytest.param(lambda: mg.tensor(np.zeros(2**20)).to("cuda"), id="to"),
        pytest.param(lambda: nn.Linear(2**10, 2**10).to("cuda"), id="a model"),
        pytest.param(lambda: mg.randn(2**20, device="cuda"), id="random numbers"),
    ],
)
def test_what_makes_tensors_raises_the_error(provoke):
    with memory_left(2**19), pytest.raises(cuda.OutOfMemoryError, match="asked for"):
        provoke()
    assert provoke() is not None


def test_unused_blocks_of_the_common_pool_are_given_back_before_a_private_pool_gives_up():
    array = mg.tensor(np.zeros(2**18, "f4"), device="cuda")
    private = strict_backend.namespace.cuda.MemoryPool
    with memory_left(0):
        del array
        held = POOL.total_bytes()
        assert held - POOL.used_bytes() >= 2**20
        block = allocation.private_pool(strict_backend.namespace, "test").malloc(2**20)
    assert block.pool.used_bytes() == 2**20 and isinstance(block.pool, private)
    assert POOL.total_bytes() == held - 2**20


def test_unused_blocks_of_a_captured_step_are_never_given_back():
    """They look unused, but its graph writes to them."""
    trainer = Trainer()
    step = cuda.capture(trainer.step)
    x, y = batch()
    for _ in range(4):
        step(x, y)
    (held,) = [p.total_bytes() for name, p in memory_pools() if name != "pool"]
    with memory_left(2**10), pytest.raises(cuda.OutOfMemoryError):
        mg.zeros((2**20,), device="cuda")
    assert [p.total_bytes() for name, p in memory_pools() if name != "pool"] == [held]


def memory_pools():
    return allocation.pools(strict_backend.namespace)


# --- at each allocation of a step ---


def allocations_of(run):
    with failing_at(10**9) as calls:
        run()
    return calls[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("warm", [0, 2])
def test_out_of_memory_in_an_optimizers_step_changes_nothing(name, warm, deep):
    def prepared():
        trainer = Trainer(OPTIMIZERS[name])
        for i in range(warm):
            trainer.step(*batch(seed=i))
        trainer.optimizer.zero_grad()
        cross_entropy(trainer.model(batch(seed=9)[0]), batch(seed=9)[1]).backward()
        return trainer

    reference = prepared()
    before = reference.saved()
    count = allocations_of(reference.optimizer.step)
    assert count or warm
    for call in range(0, count, 1 if deep else 5):
        trainer = prepared()
        with failing_at(call), pytest.raises(cuda.OutOfMemoryError):
            trainer.optimizer.step()
        assert_equal(trainer.saved(), before)
        trainer.optimizer.step()
        assert_equal(trainer.saved(), reference.saved())
        for p, q in zip(trainer.model.parameters(), reference.model.parameters(), strict=True):
            assert trainer.optimizer.state[p]["step"] == reference.optimizer.state[q]["step"] == warm + 1


def test_out_of_memory_at_any_allocation_of_a_step_leaves_the_process_usable(deep):
    x, y = batch()
    small = batch(4, seed=1)
    Trainer().step(x, y)  # makes what stays, such as workspaces
    count = allocations_of(lambda: Trainer().step(x, y)) - allocations_of(Trainer)
    assert count > 10
    fresh = Trainer()
    for _ in range(2):
        fresh.step(*small)
    for call in range(0, count, 1 if deep else 7):
        trainer = Trainer()
        buffers = [b.numpy().copy() for b in trainer.model.buffers()]
        with failing_at(call), pytest.raises(cuda.OutOfMemoryError) as caught:
            trainer.step(x, y)
        assert is_grad_enabled() and "asked for" in str(caught.value)
        for buffer, value in zip(trainer.model.buffers(), buffers, strict=True):  # a forward may have counted its batch
            buffer.copy_(mg.tensor(value, device="cuda"))
        for _ in range(2):
            trainer.step(*small)
        assert_equal(trainer.saved(), fresh.saved())


@pytest.mark.parametrize("collecting", [True, False])
def test_when_the_error_is_dropped_so_is_the_graphs_memory(collecting):
    trainer = Trainer()
    trainer.step(*batch())
    large = batch(64)
    trainer.optimizer.zero_grad()
    gc.collect()
    used = POOL.used_bytes()
    if not collecting:
        gc.disable()
    try:
        for call in range(4, 20, 3):
            with failing_at(call), pytest.raises(cuda.OutOfMemoryError):
                cross_entropy(trainer.model(large[0]), large[1]).backward()
            trainer.optimizer.zero_grad()
            if collecting:
                gc.collect()
            assert POOL.used_bytes() == used
    finally:
        gc.enable()


@pytest.mark.parametrize("captured", [False, True])
def test_a_batch_too_large_and_then_a_smaller_one(captured):
    """As users meet it: the large batch fails, the small one gives the numbers of a process that never saw it."""
    large, small = batch(512), batch(4, seed=1)
    results = []
    for provoke in (False, True):
        trainer = Trainer()
        if captured:
            for p in trainer.model.parameters():
                p.grad = None
        buffers = [b.numpy().copy() for b in trainer.model.buffers()]
        step = cuda.capture(trainer.step) if captured else trainer.step
        if provoke:
            with memory_left(2**16), pytest.raises(cuda.OutOfMemoryError):
                step(*large)
            for buffer, value in zip(trainer.model.buffers(), buffers, strict=True):
                buffer.copy_(mg.tensor(value, device="cuda"))
        losses = [step(*small).item() for _ in range(5)]
        results.append({"losses": np.array(losses), **trainer.saved()})
    assert_equal(*results)


def test_out_of_memory_while_recording_a_step():
    trainer, plain = Trainer(), Trainer()
    step = cuda.capture(trainer.step)
    x, y = batch()
    for _ in range(2):
        step(x, y), plain.step(x, y)
    before = trainer.saved()
    with failing_at(6), pytest.raises(cuda.OutOfMemoryError):
        step(x, y)
    assert_equal(trainer.saved(), before)
    for _ in range(3):
        step(x, y), plain.step(x, y)
    assert step.graphs == 1
    assert_equal(trainer.saved(), plain.saved())


def test_out_of_memory_in_a_loader():
    images, labels = np.zeros((64, 1, 64, 64), "f4"), np.zeros(64, int)
    for cache in (True, False):
        loader = DataLoader(ArrayDataset(images, labels, classes=["one"]), batch_size=32, device="cuda", cache=cache)
        with failing_at(1), pytest.raises(cuda.OutOfMemoryError):
            list(loader)
        assert len(list(loader)) == 2


# --- constant ---


def eager():
    trainer, (x, y) = Trainer(), batch(2)
    return lambda i: trainer.step(x, y)


def captured():
    trainer, (x, y) = Trainer(), batch(2)
    step = cuda.capture(trainer.step)
    return lambda i: step(x, y)


def scaled():
    trainer, (x, y) = Trainer(), batch(2)
    scaler = amp.GradScaler(init_scale=2.0**20, growth_interval=5)

    def step(i):
        trainer.optimizer.zero_grad()
        with amp.autocast("cuda", dtype="float16"):
            loss = cross_entropy(trainer.model(x), y)
        scaler.scale(loss).backward()
        scaler.step(trainer.optimizer)
        scaler.update()

    return step


def cached():
    trainer, rng = Trainer(), np.random.default_rng(0)
    data = ArrayDataset(rng.standard_normal((4, 1, 8, 8)).astype("f4"), rng.integers(0, 4, 4), classes=list("abcd"))
    loader = DataLoader(data, batch_size=4, shuffle=True, device="cuda", cache=True)

    def step(i):
        for x, y in loader:
            trainer.step(x, y)

    return step


def evaluated():
    trainer, (x, _) = Trainer(), batch(2)
    trainer.model.eval()

    def step(i):
        with mg.no_grad():
            trainer.model(x)

    return step


def changing_shapes():
    trainer = Trainer()
    step = cuda.capture(trainer.step, limit=2)
    shapes = [batch(size) for size in (2, 3, 4)]  # the third kind is beyond the limit

    def several(i):
        step(*shapes[i % 3])
        assert step.graphs <= 2

    return several


WORK = [eager, captured, scaled, cached, evaluated, changing_shapes]


@pytest.mark.parametrize(("make", "collecting"), [*((make, False) for make in WORK), (eager, True)])
def test_memory_is_constant(make, collecting, deep):
    """Live bytes, and the most there ever were, after step 10 and after step 300 (100 of slow ones, 10,000 if deep).

    Without gc, which finds more: memory that only a collection frees is memory held too long.
    """
    steps = 10_000 if deep else 100 if make in (cached, changing_shapes) else 300
    first = 21 if make is changing_shapes else 9  # all captured by then; the same shape as in the last step
    run = make()
    if not collecting:
        gc.disable()
    try:
        for i in range(steps):
            run(i)
            if i in (first, steps - 1):
                cuda.synchronize()
                if i == first:
                    early = books()
        assert books() == early
    finally:
        gc.enable()


def books():
    gc.collect() if gc.isenabled() else None
    return [(name, pool.used_bytes(), pool.total_bytes(), pool.peak) for name, pool in memory_pools()]


# --- the summary ---

BYTES = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def numbers_of(line):
    return [float(n.replace(",", "")) * BYTES[unit] for n, unit in re.findall(r"([\d.,]+) (bytes|[KMG]iB)", line)]


def test_the_summary_has_the_numbers_of_the_books():
    trainer = Trainer()
    step = cuda.capture(trainer.step)
    x, y = batch(32)
    for _ in range(4):
        step(x, y)
    device, *lines = cuda.memory_summary().splitlines()
    free, total = memory.memory_info()
    assert numbers_of(device) == pytest.approx([total, free], rel=0.05)
    assert [line.split("  ")[0] for line in lines] == ["pool", "step step"]
    for line, (_, pool) in zip(lines, memory_pools(), strict=True):
        expected = [pool.total_bytes(), pool.used_bytes(), pool.free_bytes()]
        assert numbers_of(line) == pytest.approx(expected, rel=0.05, abs=52)
        assert pool.total_bytes() == pool.used_bytes() + pool.free_bytes()


def test_the_summary_follows_what_is_made_and_freed():
    POOL.free_all_blocks()
    used = POOL.used_bytes()
    array = mg.zeros((2**20,), dtype="float32", device="cuda")
    assert POOL.used_bytes() == used + 2**22
    assert "4.0 MiB" in cuda.memory_summary() or used > 2**16
    del array
    assert POOL.used_bytes() == used and POOL.free_bytes() >= 2**22


def test_the_summary_of_nothing(monkeypatch):
    monkeypatch.setattr(memory, "default_pool", memory.MemoryPool())
    assert cuda.memory_summary().splitlines()[1] == "pool              0 bytes held: 0 bytes used, 0 bytes unused"


def test_the_summary_shows_a_limit(monkeypatch):
    monkeypatch.setattr(memory, "default_pool", memory.MemoryPool())
    memory.default_pool.set_limit(3 * 2**20)
    assert cuda.memory_summary().endswith("unused, limit 3.0 MiB")


def test_without_a_gpu_the_summary_says_what_is_missing(monkeypatch):
    def no_gpu():
        raise DeviceError("device 'cuda' needs CuPy, which is not installed. Install it.")

    from minigrad.backend import device

    monkeypatch.setitem(device._BY_DEVICE, "cuda", no_gpu)
    with pytest.raises(DeviceError, match="needs CuPy"):
        cuda.memory_summary()
