"""CIFAR-10, from its binary archive, its unpacked files or a copy in JPEGs, which is always said to be one.

Claimed: images and labels are read from where the format has them; pickles are refused; a JPEG copy is decoded once and
kept; and a copy that is damaged is refused, or warned of where it can still be read.
"""

import dataclasses
import hashlib
import io
import tarfile
import time
import warnings
import zipfile

import numpy as np
import pytest

from minigrad.data import DataError, cifar10, formats, sources
from minigrad.data.files import DataFile
from tests.support.data_makers import SHARED, cached, own_cache  # noqa: F401  own_cache is for every test


def cifar_batches(seed=0):
    rng = np.random.default_rng(seed)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    batches = {}
    for name in names:
        records = np.zeros((10_000, 3073), np.uint8)
        records[:, 0] = rng.integers(0, 10, 10_000)
        records[:, 1] = rng.integers(0, 256, 10_000)  # red, top left
        records[:, -1] = rng.integers(0, 256, 10_000)  # blue, bottom right
        batches[name] = records
    return batches


def test_cifar10_is_read_from_its_archive_or_the_unpacked_files(tmp_path, monkeypatch):
    batches = cifar_batches()
    archive = tmp_path / "packed" / "cifar10" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as writer:
        for name in ("test_batch.bin", "data_batch_1.bin"):
            content = batches[name].tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            writer.addfile(member, io.BytesIO(content))
    folder = tmp_path / "unpacked" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        batches[name].tofile(folder / name)
    source = sources.SOURCES["cifar10"]
    table = {"archive": DataFile(archive.name, hashlib.md5(archive.read_bytes()).hexdigest())}
    monkeypatch.setitem(sources.SOURCES, "cifar10", dataclasses.replace(source, files=table))

    expected = batches["test_batch.bin"]
    for root in (tmp_path / "packed", tmp_path / "unpacked"):
        test = cifar10(False, root, dtype=np.uint8, download=False)
        assert test.images.shape == (10_000, 3, 32, 32) and test.labels.dtype == np.int64
        np.testing.assert_array_equal(test.labels, expected[:, 0])
        np.testing.assert_array_equal(test.images[:, 0, 0, 0], expected[:, 1])
        np.testing.assert_array_equal(test.images[:, 2, 31, 31], expected[:, -1])
        assert test.classes[3] == "cat" and test.note == ""
    with pytest.raises(DataError, match=r"lacks cifar-10-batches-bin/data_batch_2.bin"):
        cifar10(True, tmp_path / "packed", download=False)
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz not found"):
        cifar10(True, tmp_path / "unpacked", download=False)
    (folder / "test_batch.bin").write_bytes(expected.tobytes()[:-5])
    with pytest.raises(DataError, match="30729995 bytes; expected 30730000"):
        cifar10(False, tmp_path / "unpacked", download=False)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match="is damaged"):
        cifar10(False, tmp_path / "packed", download=False)
    with pytest.raises(DataError, match=r"cut short or damaged|lacks"):
        formats.read_tar_members(archive, ["cifar-10-batches-bin/data_batch_5.bin"])


def test_the_pickles_of_the_python_version_are_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"pickles")
    with pytest.raises(DataError, match="holds pickles") as caught:
        cifar10(root=tmp_path, download=False)
    assert "cifar-10-binary.tar.gz" in str(caught.value) and "c32a1d4ab5d03f1284b67883e8d87530" in str(caught.value)


def jpeg_copy(path, number=6, size=32, noise=False):
    image_module = pytest.importorskip("PIL.Image")
    arrays = {}
    for split in ("train", "test"):
        jpegs = []
        for index in range(number):
            stream = io.BytesIO()
            colour = (40 * index % 256, 0, 200 if split == "train" else 50)
            image = image_module.new("RGB", (size, size), colour)
            if noise:
                image = image_module.effect_noise((size, size), 80).convert("RGB")
            image.save(stream, "JPEG", quality=95)
            jpegs.append(stream.getvalue())
        arrays[f"{split}_bytes"] = np.frombuffer(b"".join(jpegs), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, jpegs)])
        arrays[f"{split}_labels"] = np.arange(number, dtype=np.uint8) % 10
    np.savez(path, **arrays)
    return arrays


def test_a_jpeg_copy_of_cifar10_is_decoded_said_to_be_one_and_kept_decoded(tmp_path, monkeypatch):
    jpeg_copy(tmp_path / "cifar10_jpeg.npz")
    train = cifar10(True, tmp_path, dtype=np.uint8)
    assert train.note == "JPEG copy" and "JPEG copy" in train.name and "JPEG copy" in repr(train)
    assert train.images.shape == (6, 3, 32, 32) and train.labels.tolist() == list(range(6))
    expected = np.array([[40 * index, 0, 200] for index in range(6)])
    assert np.abs(train.images.mean(axis=(2, 3)) - expected).max() < 4
    assert cifar10(False, tmp_path, dtype=np.uint8).images[:, 2].mean() < 60

    kept = list((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 2 == len(cached(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(formats, "_decode_jpegs", lambda *arguments: pytest.fail("decoded again"))
        np.testing.assert_array_equal(cifar10(True, tmp_path, dtype=np.uint8).images, train.images)
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(cifar10(True, tmp_path, dtype=np.uint8).images, train.images)


def test_a_damaged_jpeg_copy_is_refused(tmp_path):
    path = tmp_path / "cifar10_jpeg.npz"
    arrays = jpeg_copy(path)
    broken = [
        ({"train_labels": arrays["train_labels"][:-1]}, "do not fit together"),
        ({"train_offsets": arrays["train_offsets"][::-1]}, "do not fit together"),
        ({"train_bytes": arrays["train_bytes"][:-9]}, "do not fit together"),
        ({"train_bytes": np.zeros_like(arrays["train_bytes"])}, "image 0 is not a 32x32 JPEG"),
        ({"train_labels": arrays["train_labels"] + 9}, "holds class 14"),
        ({"train_labels": np.array([None] * 6)}, "cannot be read"),  # a pickle
    ]
    for change, complaint in broken:
        np.savez(path, **{**arrays, **change})
        with pytest.raises(DataError, match=complaint) as caught:
            cifar10(True, tmp_path)
        assert "cifar10_jpeg.npz" in str(caught.value)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        cifar10(True, tmp_path)
    jpeg_copy(path, size=1)
    with pytest.raises(DataError, match="1x1 pixels"):
        cifar10(True, tmp_path)


def test_a_jpeg_copy_that_went_through_text_mode_is_warned_of_and_noted(tmp_path):
    path = tmp_path / "cifar10_jpeg.npz"
    arrays = jpeg_copy(path, number=40, noise=True)
    assert cifar10(True, tmp_path).note == "JPEG copy"
    content = arrays["train_bytes"]
    np.savez(path, **{**arrays, "train_bytes": np.where(content == 13, 10, content).astype(np.uint8)})
    with pytest.warns(UserWarning, match=r"cifar10_jpeg.npz: damaged: not one byte 0x0D"):
        train = cifar10(True, tmp_path)
    assert train.note == "JPEG copy, damaged" and train.note in train.name


def test_the_shared_jpeg_copy_of_cifar10():
    if not (SHARED / "cifar10" / "cifar10_jpeg.npz").is_file():
        pytest.skip(f"no JPEG copy of CIFAR-10 beside the repository, in {SHARED / 'cifar10'}")
    pytest.importorskip("PIL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the copy may be a damaged one; its note then says so
        test = cifar10(False, SHARED, dtype=np.uint8, download=False)
    assert test.images.shape == (10_000, 3, 32, 32) and test.note.startswith("JPEG copy")
    assert np.bincount(test.labels).tolist() == [1000] * 10


# --- damaged, foreign and hostile files ---


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("labels", lambda a: a.astype("i8") - 3, "holds class -3"),
        ("labels", lambda a: np.where(a == 2, np.nan, a), "whole numbers"),
        ("labels", lambda a: a + 0.5, "whole numbers"),
        ("labels", lambda a: a[:, None], r"shape \(6, 1\).*one dimension"),
        ("labels", lambda a: np.array(["cat"] * 6), "whole numbers"),
        ("labels", lambda a: np.array(3), r"shape \(\)"),
        ("labels", lambda a: a > 2, "whole numbers"),
        ("labels", lambda a: np.uint64(2**63) + a, "holds class"),
        ("offsets", lambda a: a.astype("f8"), "whole numbers"),
        ("offsets", lambda a: a - 1, "do not fit together"),
        ("offsets", lambda a: a * 2, "do not fit together"),
        ("offsets", lambda a: np.zeros_like(a), "do not fit together"),
        ("offsets", lambda a: a.astype("u8")[::-1], "do not fit together"),
        ("offsets", lambda a: a[None], "one dimension"),
        ("offsets", lambda a: a[:0], "do not fit together"),
        ("bytes", lambda a: a.astype("i4"), "do not fit together"),
        ("bytes", lambda a: a.reshape(1, -1), "one dimension"),
    ],
)
def test_columns_of_a_jpeg_copy_that_make_no_sense_are_refused(part, change, words, tmp_path):
    arrays = jpeg_copy(tmp_path / "cifar10_jpeg.npz")
    arrays[f"train_{part}"] = change(arrays[f"train_{part}"])
    np.savez(tmp_path / "cifar10_jpeg.npz", **arrays)
    with pytest.raises(DataError, match=rf"cifar10_jpeg\.npz: .*{words}"):
        cifar10(True, tmp_path)


def test_a_jpeg_that_says_to_be_huge_is_refused_without_decoding(tmp_path):
    arrays = jpeg_copy(tmp_path / "cifar10_jpeg.npz", number=1)
    content = bytearray(arrays["train_bytes"].tobytes())
    place = content.index(b"\xff\xc0")  # the frame header: length, precision, height, width
    for size in (b"\xff\xff\xff\xff", b"\x40\x00\x40\x00", b"\x00\x00\x00\x00"):
        content[place + 5 : place + 9] = size
        np.savez(tmp_path / "cifar10_jpeg.npz", **{**arrays, "train_bytes": np.frombuffer(bytes(content), np.uint8)})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(DataError, match=r"cifar10_jpeg\.npz: image 0 is not a 32x32 JPEG"):
                cifar10(True, tmp_path)


def test_an_npz_of_zeros_without_end_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "cifar10_jpeg.npz"
    arrays = jpeg_copy(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            if name != "train_bytes":
                with archive.open(f"{name}.npy", "w") as stream:
                    np.save(stream, array)
        with archive.open("train_bytes.npy", "w", force_zip64=True) as stream:
            for _ in range(220):
                stream.write(bytes(1 << 20))
    began = time.perf_counter()
    with pytest.raises(DataError, match="train_bytes unpacks to 230686720 bytes, more than the data set can be"):
        cifar10(True, tmp_path)
    assert time.perf_counter() - began < 1


def test_an_npy_header_that_promises_more_than_there_is_is_refused(tmp_path):
    path = tmp_path / "cifar10_jpeg.npz"
    arrays = jpeg_copy(path)
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_bytes.npy", stream.getvalue())
        for name, array in arrays.items():
            if name != "train_bytes":
                with archive.open(f"{name}.npy", "w") as member:
                    np.save(member, array)
    with pytest.raises(DataError, match="train_bytes has shape"):
        cifar10(True, tmp_path)


def tar_of(path, *members):
    with tarfile.open(path, "w:gz", compresslevel=1) as writer:
        for name, size, kind in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = size, kind
            member.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            writer.addfile(member, io.BytesIO(bytes(size)) if kind == tarfile.REGTYPE else None)
    return path


def test_hostile_members_of_an_archive_are_refused(tmp_path):
    wanted, path = "cifar-10-batches-bin/test_batch.bin", tmp_path / "a.tar.gz"
    for members, words in [
        ([("big", 900_000, tarfile.REGTYPE)], "unpacks to more than the data set can be"),
        ([(f"small {i}", 0, tarfile.REGTYPE) for i in range(2_000)], "unpacks to more than the data set can be"),
        ([(wanted, 77, tarfile.REGTYPE)], r"test_batch.bin has 77 bytes; expected 100000"),
        ([(wanted, 0, tarfile.SYMTYPE)], "lacks"),
        ([("../" + wanted, 5, tarfile.REGTYPE)], "lacks"),
    ]:
        tar_of(path, *members)
        with pytest.raises(DataError, match=rf"a\.tar\.gz: .*{words}"):
            formats.read_tar_members(path, [wanted], size=100_000)


def test_unpacked_files_are_the_users_own_and_said_not_to_be_the_original_where_that_can_be_told(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = cifar_batches()["test_batch.bin"]
    records[:, 0] = np.arange(10_000) % 10
    records.tofile(folder / "test_batch.bin")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(cifar10(False, tmp_path, dtype=np.uint8, download=False)) == 10_000
    records[0, 0] = 5
    records.tofile(folder / "test_batch.bin")
    with pytest.warns(UserWarning, match="not the original files"):
        cifar10(False, tmp_path, dtype=np.uint8, download=False)
    records[0, 0] = 10
    records.tofile(folder / "test_batch.bin")
    with pytest.raises(DataError, match="holds class 10"):
        cifar10(False, tmp_path, dtype=np.uint8, download=False)
    with open(folder / "test_batch.bin", "wb") as file:
        file.truncate(10**11)  # takes no room
    with pytest.raises(DataError, match=r"test_batch\.bin: 100000000000 bytes; expected 30730000"):
        cifar10(False, tmp_path, dtype=np.uint8, download=False)
