"""Where data comes from: the digits in the package, IDX files, folders and mirrors; and no damaged file taken for good.

Claimed: the digits are scikit-learn's, split for good; MNIST is found packed or unpacked in every folder it may lie in;
a file that is missing, damaged, cut short or another's is named with what to do, and never used; a download is checked,
kept and mended.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import struct
import sys
import threading
import time

import numpy as np
import pytest

from minigrad import data
from minigrad.data import DataError, digits, formats, mnist, mnist_t10k, sources
from minigrad.data.files import DataFile
from tests.support.data_makers import SHARED, cached, own_cache  # noqa: F401  own_cache is for every test

# ------------------------------------------------------------------------------------------------------ digits


@pytest.mark.parametrize("size", [8, 28, 32])
def test_digits_are_split_for_good_and_in_proportion(size):
    train, test = digits(True, size), digits(False, size)
    for part, number in ((train, 1438), (test, 359)):
        assert part.images.shape == (number, 1, size, size) and part.images.dtype == np.float32
        assert part.labels.shape == (number,) and part.labels.dtype == np.int64
        assert part.images.min() == 0 and 0.9 < part.images.max() <= 1
        assert part.classes == tuple("0123456789") and "digits" in part.name
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    assert np.all(np.abs(np.bincount(test.labels) - 0.2 * counts) <= 1)
    assert hashlib.md5(test.labels.astype(np.uint8).tobytes()).hexdigest() == "cf1848b6f310e42e404b9af96a01064d"


def test_digits_are_scikit_learns():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    ours = np.concatenate([part.images for part in (digits(True), digits(False))])[:, 0] * 16
    labels = np.concatenate([part.labels for part in (digits(True), digits(False))])
    theirs = load_digits()

    def in_order(images, labels):
        return sorted((bytes(image.astype(np.uint8)), int(label)) for image, label in zip(images, labels, strict=True))

    assert in_order(ours, labels) == in_order(theirs.images, theirs.target)


@pytest.mark.parametrize("size", [7, 0, 8.5, None])
def test_digits_of_no_such_size(size):
    with pytest.raises(DataError, match="size is"):
        digits(size=size)


def test_enlarging_keeps_planes_and_the_mean():
    row, column = np.mgrid[:8, :8].astype(np.float64)
    plane = sources.enlarge(2 * row - column, 32)
    fine_row, fine_column = (np.mgrid[:32, :32] + 0.5) / 4 - 0.5
    inside = slice(8, 24)  # away from the border, where the edge pixel repeats
    np.testing.assert_allclose(plane[inside, inside], (2 * fine_row - fine_column)[inside, inside], atol=1e-12)
    np.testing.assert_allclose(sources.enlarge(np.ones((2, 1, 8, 8)), 28), 1)
    small, large = digits(False).images, digits(False, 32).images
    np.testing.assert_allclose(small.mean(axis=(1, 2, 3)), large.mean(axis=(1, 2, 3)), atol=0.02)


def test_a_linear_model_reads_the_digits():
    train, test = digits(True), digits(False)
    inputs = train.images.reshape(len(train), -1)
    weights = np.linalg.lstsq(inputs.T @ inputs + np.eye(64), inputs.T @ np.eye(10)[train.labels], rcond=None)[0]
    guesses = (test.images.reshape(len(test), -1) @ weights).argmax(axis=1)
    assert np.mean(guesses == test.labels) > 0.9


# ------------------------------------------------------------------------------------------------- IDX and MNIST


def idx_bytes(array):
    code = {"u1": 0x08, "i4": 0x0C, "f4": 0x0D}[array.dtype.str[1:]]
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_as_written(tmp_path, dtype, ending):
    array = (np.arange(24).reshape(2, 3, 4) * 7).astype(dtype)
    path = tmp_path / f"array-idx3{ending}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if ending else idx_bytes(array))
    read = formats.read_idx(path, (None, 3, 4))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype) and read.flags.writeable


WHOLE = idx_bytes(np.arange(12, dtype="u1").reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"<htm" + WHOLE, "not an IDX file: it starts with 3c 68 74 6d"),
        (b"\0\0\x07" + WHOLE[3:], "expected 00 00, a dtype byte"),
        (WHOLE[:7], "cut short inside its header: 7 bytes, expected 12 or more"),
        (WHOLE[:-1], r"23 bytes, but its header, shape \(3, 4\) of uint8, calls for 24"),
        (WHOLE + b"\0", "25 bytes"),
        (idx_bytes(np.zeros((3, 5), "u1")), r"shape \(3, 5\); expected \(any, 4\)"),
        (idx_bytes(np.zeros(3, "u1")), r"shape \(3,\); expected"),
    ],
)
def test_a_damaged_idx_file_is_refused_and_named(tmp_path, content, complaint):
    path = tmp_path / "damaged-idx2"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        formats.read_idx(path, (None, 4))
    assert "damaged-idx2" in str(caught.value)


def test_a_gzip_file_cut_short_or_garbled_is_refused(tmp_path):
    path = tmp_path / "array.gz"
    packed = gzip.compress(idx_bytes(np.arange(999, dtype="i4")))
    garbled = bytearray(packed)
    garbled[len(packed) // 2] ^= 0xFF
    for content in (packed[: len(packed) // 2], packed[:-2], bytes(garbled), b"not gzip at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"array.gz: the gzip file is cut short or damaged"):
            formats.read_idx(path, (None,))


@functools.cache
def little_mnist():
    """Made-up files of MNIST's test part, right in every way, with their checksums."""
    rng = np.random.default_rng(0)
    images = np.zeros((10_000, 28, 28), "u1")
    images[:, 10:12, 10:12] = rng.integers(0, 256, (10_000, 2, 2))
    labels = rng.integers(0, 10, 10_000).astype("u1")
    names = {"test images": "t10k-images-idx3-ubyte", "test labels": "t10k-labels-idx1-ubyte"}
    contents, table = {}, {}
    for (role, name), array in zip(names.items(), (images, labels), strict=True):
        contents[name] = idx_bytes(array)
        contents[f"{name}.gz"] = gzip.compress(contents[name], compresslevel=1)
        digests = [hashlib.md5(contents[version]).hexdigest() for version in (f"{name}.gz", name)]
        table[role] = DataFile(f"{name}.gz", *digests)
    return contents, table, images, labels


@pytest.fixture
def made_up_mnist(monkeypatch):
    contents, table, images, labels = little_mnist()
    source = dataclasses.replace(sources.SOURCES["mnist"], files={**sources.SOURCES["mnist"].files, **table})
    monkeypatch.setitem(sources.SOURCES, "mnist", source)
    return contents, images, labels


def put(folder, contents, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(contents[name])
    return folder


PACKED = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
UNPACKED = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.mark.parametrize("names", [PACKED, UNPACKED, (PACKED[0], UNPACKED[1])])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_files_are_found_in_the_folder_and_its_subfolders(made_up_mnist, tmp_path, monkeypatch, names, folder):
    contents, images, labels = made_up_mnist
    put(tmp_path / "mine" / folder, contents, names)
    test = mnist(False, root=tmp_path / "mine")
    np.testing.assert_array_equal(test.labels, labels)
    np.testing.assert_array_equal(test.images[:, 0] * 255, images)
    assert test.images.dtype == np.float32 and test.name == "MNIST test"
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "mine"))
    raw = mnist(False, dtype=np.uint8)
    assert raw.images.dtype == np.uint8 and raw.images.shape == (10_000, 1, 28, 28)
    np.testing.assert_array_equal(raw.images[:, 0], images)


def test_the_partial_copy_is_split_8000_to_2000(made_up_mnist, tmp_path):
    contents, _, labels = made_up_mnist
    root = put(tmp_path, contents, PACKED)
    train, test = mnist_t10k(True, root), mnist_t10k(False, root)
    assert (len(train), len(test)) == (8000, 2000)
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), labels)
    assert "t10k" in train.name and "8,000/2,000" in train.note


def test_a_missing_file_is_named_with_its_checksum_and_where_to_put_it(tmp_path):
    with pytest.raises(DataError) as caught:
        mnist(root=tmp_path, download=False)
    message = str(caught.value)
    for part in (
        "train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "(no file)",
        str(tmp_path / "mnist"),
        "MINIGRAD_DATA",
        "root=",
        "https://",
    ):
        assert part in message


@pytest.mark.parametrize("name", [PACKED[0], UNPACKED[1]])
def test_a_file_with_a_wrong_checksum_is_never_used(made_up_mnist, tmp_path, name):
    contents, _, _ = made_up_mnist
    put(tmp_path, contents, [name, *(set(PACKED) - {f"{name.removesuffix('.gz')}.gz"})])
    garbled = contents[name][:-1] + bytes([contents[name][-1] ^ 1])
    (tmp_path / name).write_bytes(garbled)
    with pytest.raises(DataError, match="is damaged") as caught:
        mnist(False, root=tmp_path)
    for part in (name, hashlib.md5(contents[name]).hexdigest(), hashlib.md5(garbled).hexdigest(), "MINIGRAD_DATA"):
        assert part in str(caught.value)


def test_mnist_is_not_taken_for_fashion_mnist(made_up_mnist, tmp_path):
    contents, _, _ = made_up_mnist
    with pytest.raises(DataError, match=r"Fashion-MNIST: .*another file of the same name"):
        data.fashion_mnist(False, root=put(tmp_path, contents, UNPACKED))


def test_the_real_mnist_test_images():
    if not (SHARED / "mnist" / PACKED[0]).is_file():
        pytest.skip(f"no copy of MNIST's test images beside the repository, in {SHARED / 'mnist'}")
    train, test = mnist_t10k(True, SHARED), mnist_t10k(False, SHARED)
    assert train.images.shape == (8000, 1, 28, 28) and test.images.shape == (2000, 1, 28, 28)
    assert train.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert (train.images.min(), train.images.max()) == (0, 1)
    whole = mnist(False, SHARED, download=False)
    np.testing.assert_array_equal(whole.images[8000:], test.images)


# --------------------------------------------------------------------------------------------------- downloads


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A mirror on this machine: what it serves, and what it was asked for."""
    pytest.importorskip("pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serving, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = serving.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_port}", serving, asked
    service.shutdown()
    service.server_close()


def use_mirrors(monkeypatch, key, *mirrors):
    monkeypatch.setitem(sources.SOURCES, key, dataclasses.replace(sources.SOURCES[key], mirrors=mirrors))


def test_a_download_passes_by_a_bad_mirror_is_kept_and_mended(made_up_mnist, server, tmp_path, monkeypatch):
    contents, _, labels = made_up_mnist
    address, serving, asked = server
    use_mirrors(monkeypatch, "mnist", f"{address}/gone/", f"{address}/bad/", f"{address}/good/")
    for name in PACKED:
        serving[f"/bad/{name}"] = b"<html>not here any more</html>"
        serving[f"/good/{name}"] = contents[name]
    np.testing.assert_array_equal(mnist(False).labels, labels)
    assert cached(tmp_path) == sorted(PACKED)
    asked.clear()
    mnist(False)
    assert asked == [], "a file in the cache was downloaded again"
    (tmp_path / "cache" / "mnist" / PACKED[1]).write_bytes(b"damaged")
    np.testing.assert_array_equal(mnist(False).labels, labels)
    assert asked and all(PACKED[1] in path for path in asked)


def test_a_download_that_fails_says_why_and_leaves_nothing_behind(server, tmp_path, monkeypatch):
    address, serving, _ = server
    use_mirrors(monkeypatch, "mnist", f"{address}/bad/", f"{address}/gone/", "http://127.0.0.1:1/nobody/")
    serving["/bad/train-images-idx3-ubyte.gz"] = b"half a fi"
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        mnist()
    message = str(caught.value)
    for part in ("/bad/", "/gone/: 404", "/nobody/", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "MINIGRAD_DATA", "root="):
        assert part in message
    assert cached(tmp_path) == []


def test_without_pooch_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r'pip install "minigrad\[examples\]"'):
        mnist(root=tmp_path)


def test_a_download_that_never_ends_is_broken_off(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sent = []

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while sum(sent) < 10**8:
                    sent.append(self.wfile.write(bytes(1 << 16)))

        def log_message(self, *arguments):
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    source = sources.SOURCES["mnist"]
    files = {key: dataclasses.replace(file, largest=10**6) for key, file in source.files.items()}
    address = f"http://127.0.0.1:{service.server_port}/"
    monkeypatch.setitem(sources.SOURCES, "mnist", dataclasses.replace(source, mirrors=(address,), files=files))
    with pytest.raises(DataError, match="broken off: it sends more than the file can have"):
        mnist()
    service.shutdown()
    service.server_close()
    assert sum(sent) < 5 * 10**7 and cached(tmp_path) == []


def test_a_gzip_of_zeros_without_end_is_read_no_further_than_its_header_says(tmp_path):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(idx_bytes(np.arange(10, dtype="u1")))
        for _ in range(300):
            stream.write(bytes(1 << 20))
    began = time.perf_counter()
    with pytest.raises(DataError, match=r"bomb\.gz: .* bytes or more, but its header"):
        formats.read_idx(path, (None,))
    assert time.perf_counter() - began < 0.5
    path = tmp_path / "huge"
    path.write_bytes(b"\0\0\x08\x02" + b"\xff" * 8)
    with pytest.raises(DataError, match=r"huge: its header.* too many"):
        formats.read_idx(path, (None, None))


def test_labels_of_another_kind_are_refused_by_name(made_up_mnist, tmp_path, monkeypatch):
    for labels in (np.full(10_000, -3, "i1"), np.full(10_000, np.nan, "f4"), np.full(10_000, 3.5, "f4")):
        with pytest.raises(DataError, match="MNIST, test labels: "):
            formats.checked_labels(labels, "MNIST, test labels")


# ------------------------------------------------------------------------------------------------------ the table


def test_every_data_set_is_in_the_table_with_ten_classes_and_real_checksums():
    assert set(data.DATASETS) == {"digits", "mnist", "mnist_t10k", "fashion_mnist", "cifar10"}
    for source in sources.SOURCES.values():
        assert len(set(source.classes)) == 10 and source.mirrors
        for file in source.files.values():
            assert all(len(bytes.fromhex(digest)) == 16 for digest in file.versions().values())
    digests = [
        digest
        for source in sources.SOURCES.values()
        for file in source.files.values()
        for digest in file.versions().values()
    ]
    assert len(set(digests)) == len(digests)


def test_every_public_name_is_there_and_described():
    for name in data.__all__:
        value = getattr(data, name)
        if getattr(value, "__module__", "").startswith("minigrad"):
            assert value.__doc__, name
