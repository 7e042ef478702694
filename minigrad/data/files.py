"""Files of data sets: found, checked, and downloaded.

A file of its authors is taken only when its checksum is what it should be. One that is missing or damaged gives a
`DataError` that says which, what was expected, what was found, and where to put a good one. `Places.searched` says
where minigrad looks for data, and in which order. Files that somebody made of them, the CIFAR-10 archive unpacked or a
copy in JPEGs, have no published checksum; they are found here, and `formats` checks what can be checked of them.
"""

import contextlib
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .dataset import DataError


@dataclass(frozen=True)
class DataFile:
    """A file as its authors published it, and the checksum of its unpacked content if it is gzipped.

    A download is broken off after `largest` bytes.
    """

    name: str
    md5: str
    unpacked_md5: str | None = None
    largest: int = 200_000_000  # the largest that we know, CIFAR-10's archive, has 170,052,171

    def versions(self) -> dict[str, str]:
        """The checksum of each name that the file may go by."""
        unpacked = {self.name.removesuffix(".gz"): self.unpacked_md5} if self.unpacked_md5 else {}
        return {self.name: self.md5, **unpacked}


def cache_folder() -> Path:
    """Where downloads are kept: ``MINIGRAD_CACHE``, or the operating system's place for caches."""
    if chosen := os.environ.get("MINIGRAD_CACHE"):
        return Path(chosen).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "minigrad" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "minigrad"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "minigrad"


@dataclass(frozen=True)
class Places:
    """Where the files of one data set may be found, and where they can be downloaded.

    Parameters
    ----------
    title : str
        The data set's name to a reader.
    folders : tuple of str
        Subfolders to look into, beside the folder itself. The first one is used in the cache.
    mirrors : tuple of str
        Addresses to put before a file's name.
    root : path, optional
        The user's folder; the environment variable ``MINIGRAD_DATA`` unless given. Only read, never written to.
    download : bool
        Whether a file that is not found may be downloaded into the cache.
    """

    title: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    root: str | os.PathLike[str] | None = None
    download: bool = True

    def searched(self) -> list[Path]:
        """The folders looked into, in this order: the user's and its subfolders, then the cache."""
        own = self.root if self.root is not None else os.environ.get("MINIGRAD_DATA")
        if not own:
            return [self.cache()]
        base = Path(own).expanduser()
        return [base, *(base / folder for folder in self.folders), self.cache()]

    def cache(self) -> Path:
        return cache_folder() / self.folders[0]

    def find(self, name: str) -> list[Path]:
        """The files of this name in `searched`, unchecked."""
        return [folder / name for folder in self.searched() if (folder / name).is_file()]

    def get(self, file: DataFile) -> Path:
        """The path of a copy of `file` with the right checksum, downloaded if none is found.

        Raises
        ------
        DataError
            If the user's copy is damaged, or if no copy is found and none can be downloaded.
        """
        wrong: dict[Path, str] = {}
        for name, expected in file.versions().items():
            for path in self.find(name):
                digest = md5_of(path)
                if digest == expected:
                    return path
                wrong[path] = digest
        damaged = [path for path in wrong if path.parent != self.cache()]
        if damaged:
            problem = f"{damaged[0]} is damaged, or another file of the same name"
            raise self.error(problem, file, wrong[damaged[0]], name=damaged[0].name)
        cached = next(iter(wrong), None)
        found = wrong[cached] if cached else None
        if not self.download:
            problem = f"{cached} is damaged" if cached else f"{file.name} not found"
            raise self.error(f"{problem}, and download=False", file, found)
        return self._fetch(file, found)

    def error(
        self,
        problem: str,
        file: DataFile,
        digest: str | None = None,
        details: str = "",
        name: str | None = None,
    ) -> DataError:
        """The one message for every missing or damaged file."""
        shown = name or file.name
        lines = [
            f"{self.title}: {problem}.",
            f"  file:          {shown}",
            f"  expected md5:  {file.versions()[shown]}",
            f"  found md5:     {digest or '(no file)'}",
            "  looked in:     " + "\n                 ".join(str(folder) for folder in self.searched()),
        ]
        lines += [f"  {details}"] if details else []
        lines.append(
            f"Put the original file into a folder, or a subfolder {self.folders[0]}/ of it, and name that folder "
            "with root=... or the environment variable MINIGRAD_DATA."
        )
        lines += [f"It can be had from {mirror}{file.name}" for mirror in self.mirrors]
        return DataError("\n".join(lines))

    def _fetch(self, file: DataFile, digest: str | None) -> Path:
        try:
            import pooch
        except ImportError as missing:
            raise self.error(
                f"{file.name} not found, and downloading it needs pooch",
                file,
                digest,
                'To let minigrad download it: pip install "minigrad[examples]"',
            ) from missing
        failures = []
        for mirror in self.mirrors:
            downloader = _limited(pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16), file.largest)
            try:
                # pooch writes to a temporary file and moves it here only once the checksum is right.
                return Path(
                    pooch.retrieve(
                        mirror + file.name,
                        f"md5:{file.md5}",
                        fname=file.name,
                        path=self.cache(),
                        downloader=downloader,
                    )
                )
            # The errors of requests are OSErrors; a wrong checksum is a ValueError.
            except (OSError, ValueError) as failure:
                failures.append(f"{mirror}: {first_line(failure)}")
        raise self.error(
            f"{file.name} could not be downloaded",
            file,
            digest,
            "tried:         " + "\n                 ".join(failures),
        )


class _Bounded:
    """A file that takes so many bytes and no more."""

    def __init__(self, file: BinaryIO, left: int):
        self.file, self.left = file, left

    def write(self, content: bytes) -> int:
        self.left -= len(content)
        if self.left < 0:
            raise OSError("broken off: it sends more than the file can have")
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def _limited(downloader: Callable[..., Any], largest: int) -> Callable[..., Any]:
    """A downloader of pooch's that gives up after `largest` bytes, as a server may send for ever."""

    def download(url: str, output_file: str, manager: Any, check_only: bool = False) -> Any:
        if check_only:
            return downloader(url, output_file, manager, check_only=True)
        with open(output_file, "wb") as file:
            return downloader(url, _Bounded(file, largest), manager)

    return download


def md5_of(path: Path) -> str:
    """The MD5 of a file's content; DataError where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[io.BufferedWriter]:
    """Write a file that appears under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with open(handle, "wb") as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def first_line(failure: BaseException) -> str:
    """The first line of an exception's message; the name of its type where the message is empty."""
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]
