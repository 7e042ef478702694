"""Files of tensors: what comes back is what was written, and an incomplete file is refused."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

import minigrad as mg
from minigrad import serialization
from minigrad.serialization import CheckpointError, load, load_metadata, load_state, save, save_state

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
arrays = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
numbers = st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.booleans() | st.none()
states = st.recursive(
    arrays | arrays.map(mg.tensor) | numbers | st.text(),
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), part, max_size=3)
    ),
    max_leaves=12,
)


def assert_same(found, given):
    """Equal in structure and in every bit; arrays come back as Tensors."""
    if isinstance(given, (np.ndarray, mg.Tensor)):
        expected = np.asarray(given if isinstance(given, np.ndarray) else given.numpy())
        assert isinstance(found, mg.Tensor)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.numpy().tobytes() == expected.tobytes()
        return
    assert type(found) is type(given)
    if isinstance(given, dict):
        assert list(found) == list(given)
        for key in given:
            assert_same(found[key], given[key])
    elif isinstance(given, (list, tuple)):
        assert len(found) == len(given)
        for a, b in zip(found, given, strict=True):
            assert_same(a, b)
    else:
        assert found == given


@pytest.mark.parametrize("write", [save, save_state])
@given(state=states)
def test_any_state_comes_back_as_it_was(write, state, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "state.safetensors"
    write(path, state)
    assert_same(load(path), state)
    if write is save_state:
        assert_same(load_state(path), state)


def test_a_single_tensor_comes_back_as_a_tensor(tmp_path):
    for x in (mg.tensor([1.0, 2.0]), mg.tensor(3.0), np.arange(3)):
        assert_same(load(save(tmp_path / "x.safetensors", x)), x)


def test_the_states_of_a_model_and_its_optimizer_come_back_with_one_pair_of_functions(tmp_path):
    model = mg.nn.Linear(3, 2)
    optimizer = mg.optim.Adam(model.parameters())
    model(mg.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "run.safetensors"
    save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})
    state = load(path)
    other = mg.nn.Linear(3, 2)
    other.load_state_dict(state["model"])
    resumed = mg.optim.Adam(other.parameters())
    resumed.load_state_dict(state["optimizer"])
    assert state["epoch"] == 3
    assert_same(dict(other.state_dict()), dict(model.state_dict()))
    assert_same(resumed.state_dict(), optimizer.state_dict())
    assert load(save(path, model.state_dict())).keys() == model.state_dict().keys()


def test_files_written_before_save_took_states_are_read_as_before(tmp_path):
    """Their bytes: a flat file has no metadata of ours, a nested one has its structure under one key."""
    save_file({"fc.weight": np.ones((2, 2))}, tmp_path / "flat")
    assert_same(load(tmp_path / "flat"), {"fc.weight": np.ones((2, 2))})
    skeleton = '{"dict": [["model", {"dict": [["w", {"tensor": "model.w"}]]}], [1, {"tuple": [2, null]}]]}'
    save_file({"model.w": np.ones(3)}, tmp_path / "nested", {"minigrad.state": skeleton})
    assert_same(load_state(tmp_path / "nested"), {"model": {"w": np.ones(3)}, 1: (2, None)})


keys = st.text().filter(lambda key: key not in (serialization.STATE_KEY, serialization.CHECKSUM_KEY))
names = st.text().filter(lambda name: name != "__metadata__")  # which the file format keeps for itself


@given(st.dictionaries(names, arrays, max_size=4), st.dictionaries(keys, st.text(), max_size=3))
def test_tensors_and_metadata_come_back_as_they_were(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.mktemp("s") / "tensors.safetensors"
    save(path, tensors, metadata)
    found = load(path)
    assert found.keys() == tensors.keys()
    for name in tensors:
        assert_same(found[name], tensors[name])
    assert load_metadata(path) == metadata


def test_names_that_collide_when_they_are_flattened_are_kept_apart(tmp_path):
    state = {"a": {"b.c": np.ones(1), "b": {"c": np.zeros(2)}}, "a.b": {"c": np.full(3, 7.0)}}
    state["__metadata__"] = np.ones(4)  # the format's own name
    save_state(tmp_path / "s", state)
    assert_same(load_state(tmp_path / "s"), state)


def test_any_memory_layout_and_byte_order_can_be_written(tmp_path):
    base = np.arange(12, dtype="f4").reshape(3, 4)
    given = {"T": base.T, "step": base[::2, ::-1], "big": base.astype(">f4")}
    given["tracked"] = mg.tensor(base, requires_grad=True)
    save(tmp_path / "s", given)
    found = load(tmp_path / "s")
    for name, array in given.items():
        expected = array.detach().numpy() if isinstance(array, mg.Tensor) else array
        np.testing.assert_array_equal(found[name].numpy(), expected)
        assert found[name].dtype == np.float32
        found[name].copy_(found[name] * 2)  # may be written to
    assert not found["tracked"].requires_grad


def test_pytorch_reads_our_files_and_we_read_its(tmp_path):
    torch_files = pytest.importorskip("safetensors.torch", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    save(tmp_path / "ours.safetensors", {"w": mg.tensor([[1.0, 2.0]]), "n": np.arange(3)})
    read = torch_files.load_file(tmp_path / "ours.safetensors")
    assert read["w"].tolist() == [[1, 2]] and read["n"].dtype == torch.int64
    torch_files.save_file({"w": torch.tensor([3.0, 4.0])}, tmp_path / "theirs.safetensors")
    assert load(tmp_path / "theirs.safetensors")["w"].tolist() == [3, 4]
    torch_files.save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "bf16.safetensors")
    with pytest.raises(CheckpointError, match=r"bf16\.safetensors: cannot read 'w'"):
        load(tmp_path / "bf16.safetensors")


# --- whole or not at all ---


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused_by_name(share, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "cut.safetensors"
    save_state(path, {"w": np.arange(100.0), "epoch": 3})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for read in (load, load_metadata, load_state):
        with pytest.raises(CheckpointError, match=r"cut\.safetensors .* not a complete safetensors file"):
            read(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip, as PyTorch writes it", b"\x93NUMPY\x01\x00", b"x" * 1000])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    path = tmp_path / "foreign.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="of another kind"):
        load(path)


def test_a_missing_file_is_an_error_that_names_those_that_are_there(tmp_path):
    save(tmp_path / "best.safetensors", {"w": np.ones(1)})
    with pytest.raises(FileNotFoundError, match=r"last\.safetensors does not exist.*holds best\.safetensors"):
        load(tmp_path / "last.safetensors")
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        load_state(tmp_path / "nowhere" / "last.safetensors")
    with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
        load(tmp_path)


def test_a_file_of_tensors_is_no_state(tmp_path):
    save(tmp_path / "s", {"w": np.ones(1)})
    with pytest.raises(CheckpointError, match="no state of training"):
        load_state(tmp_path / "s")


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_ctrl_c_while_writing_leaves_the_old_file_and_nothing_else(when, tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    save(path, {"w": np.ones(3)})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(serialization.os, when, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"w": np.zeros(3)})
    monkeypatch.undo()
    assert load(path)["w"].tolist() == [1, 1, 1]
    assert os.listdir(tmp_path) == ["s.safetensors"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "s.safetensors"
    program = f"""
import numpy as np
from minigrad.serialization import save
for i in range(10**9):
    save({str(path)!r}, {{"w": np.full(200_000, i, "f4")}})
    print(i, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    for _ in range(5):
        writer.stdout.readline()
    writer.kill()
    writer.communicate()
    values = np.unique(load(path)["w"].numpy())
    assert len(values) == 1 and values[0] >= 4


# --- damaged ---


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found_or_harmless(data, tmp_path_factory):
    """Only a flip in the name of the checksum itself goes unnoticed, and that changes nothing else."""
    path = tmp_path_factory.mktemp("s") / "flipped.safetensors"
    state = {"w": np.arange(20.0, dtype="f4"), "n": np.arange(9), "epoch": 3, "text": "a"}
    save_state(path, state)
    content = bytearray(path.read_bytes())
    name = content.index(b".sha256")
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        assert_same(load_state(path), state)
    except CheckpointError as error:
        assert "flipped.safetensors" in str(error)
    else:
        assert abs(name - bit // 8) < 40


def test_every_flipped_bit_of_the_arrays_is_found(tmp_path):
    path = tmp_path / "s.safetensors"
    save(path, {"w": np.arange(4.0, dtype="f4")})
    content = path.read_bytes()
    for bit in range(8 * 16):
        place = len(content) - 16 + bit // 8
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit % 8]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match=r"s\.safetensors is damaged: its SHA-256"):
            load(path)


@pytest.mark.parametrize(
    "skeleton",
    ["", "{", "[1", '{"tensor": "absent"}', '{"dict": 3}', '{"dict": [[1]]}', '{"a": 1, "b": 2}', "{}", "[" * 100_000],
)
def test_a_damaged_structure_is_an_error_with_the_files_name(skeleton, tmp_path):
    save_file({"w": np.ones(2)}, tmp_path / "s.safetensors", {serialization.STATE_KEY: skeleton})
    with pytest.raises(CheckpointError, match=r"s\.safetensors: the structure of the state.* is damaged"):
        load_state(tmp_path / "s.safetensors")


def test_files_of_other_programs_have_no_checksum_and_ours_are_read_by_them(tmp_path):
    save_file({"w": np.ones(2)}, tmp_path / "theirs")
    assert load(tmp_path / "theirs")["w"].tolist() == [1, 1]
    save(tmp_path / "ours", {"w": np.ones(2)}, {"note": '"minigrad.sha256":"' + serialization.NO_CHECKSUM + '"'})
    assert load_file(tmp_path / "ours")["w"].tolist() == [1, 1] and load(tmp_path / "ours")["w"].tolist() == [1, 1]
    with pytest.raises(TypeError, match="minigrad's own"):
        save(tmp_path / "ours", {}, {serialization.CHECKSUM_KEY: "0"})


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "No space left on device.*Free some space"), (30, "Choose a folder that can be"), (13, "you may write to")],
)
@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_says_why_and_what_to_do(number, words, when, tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    save(path, {"w": np.ones(3)})

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(serialization.os, when, fail)
    with pytest.raises(
        OSError, match=rf"(?s)cannot be written: .*unchanged.*{words.split('.*')[-1]}.*s\.safetensors"
    ) as caught:
        save(path, {"w": np.zeros(3)})
    assert caught.value.errno == number
    monkeypatch.undo()
    assert load(path)["w"].tolist() == [1, 1, 1] and os.listdir(tmp_path) == ["s.safetensors"]


def test_a_file_in_the_place_of_a_folder_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="a file: choose another folder"):
        save(tmp_path / "file" / "s.safetensors", {"w": np.ones(1)})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"is a folder|Choose another"):
        save(tmp_path / "folder", {"w": np.ones(1)})


def test_a_state_that_holds_itself_is_refused(tmp_path):
    state = []
    state.append(state)
    with pytest.raises(TypeError, match="nested too deep"):
        save(tmp_path / "s", state)


# --- refused ---


def test_what_is_no_tensor_or_text_is_refused_by_its_place(tmp_path):
    path = tmp_path / "s"
    for call, words in [
        (lambda: save(path, {"a": {1.5: np.ones(1)}}), r"keys must be str or int, got 1\.5 in a"),
        (lambda: save(path, {"a": 3j}), "a is a complex; expected Tensors"),
        (lambda: save(path, mg.nn.Linear(1, 1)), r"the state is a Linear; .*Save its state_dict\(\)"),
        (lambda: save({"w": np.ones(1)}, path), "the path is a dict, expected a str or Path.*path comes first"),
        (lambda: save_state(mg.ones(2), str(path)), "the path is a Tensor.*torch.save takes them the other way round"),
        (lambda: save(3, {}), "the path is a int, expected a str or Path.$"),
        (lambda: save(path, {}, {serialization.STATE_KEY: "[]"}), re.escape(serialization.STATE_KEY)),
        (lambda: save(path, {"a": np.ones(1, complex)}), "'a': dtype.*complex128.*not supported"),
        (lambda: save(path, {"a": np.array(["x"])}), "'a'"),
        (lambda: save(path, {"__metadata__": np.ones(1)}), "__metadata__"),
        (lambda: save(path, {}, {"epoch": 3}), "metadata must be text.*json"),
        (lambda: save_state(path, {"a": [1, {"b": {1, 2}}]}), r"a\.1\.b is a set"),
        (lambda: save_state(path, {"a": {(1, 2): 3}}), r"keys must be str or int, got \(1, 2\) in a"),
        (lambda: save_state(path, {"f": print}), "f is a builtin"),
    ]:
        with pytest.raises(TypeError, match=words):
            call()
    assert not path.exists()


def test_the_state_stands_in_the_file_as_json_and_the_arrays_under_dotted_names(tmp_path):
    save_state(tmp_path / "s", {"model": {"fc.weight": np.ones((2, 2))}, "epoch": 3}, {"note": "hello"})
    assert list(load_file(tmp_path / "s")) == ["model.fc.weight"]  # as other programs read it
    metadata = load_metadata(tmp_path / "s")
    assert metadata["note"] == "hello"
    assert "epoch" in json.dumps(json.loads(metadata[serialization.STATE_KEY]))
