"""The documents are true: every Python block in them runs, and CI runs the README's own test command."""

import contextlib
import fnmatch
import itertools
import re
from pathlib import Path

import pytest

from tests.support import strict_backend
from tests.support.cuda import compiling

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(document: Path, language: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks whose language matches, in order."""
    return re.findall(rf"^```({language})\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("new_op")  # the ops that documents define leave the table again
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_python_block_of_a_document_runs_and_prints_what_it_says(document, tmp_path, monkeypatch, capsys):
    """The blocks of one document share their names, as a reader who types them in would have it.

    A block marked `output` is what the Python block before it prints, to the letter. What is written for a GPU runs on
    the stand-in for one.
    """
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__document__"}
    for_a_gpu = document.name == "gpu.md"
    if for_a_gpu and not compiling.AVAILABLE:
        pytest.skip("no C++ compiler to run CUDA kernels with")
    with strict_backend.installed() if for_a_gpu else contextlib.nullcontext():
        for number, (language, block) in enumerate(blocks(document, "python|output")):
            if language == "python":
                exec(compile(block, f"{document.name}, block {number}", "exec"), names)
                printed = capsys.readouterr().out
            else:
                assert printed == block, f"{document.name}, block {number}: the output has changed"


def test_ci_calls_both_commands_of_the_readme():
    commands = [command.strip() for _, command in blocks(ROOT / "README.md", "sh")]
    assert len(commands) == 2
    assert set(commands) <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_documents_link_to_files_that_exist():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


# --- the paths that documents name ---

SPEAKING_OF_PATHS = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # which speaks of the past
FOLDERS = ("minigrad", "nn", "optim", "tests", "examples", "benchmarks", "docs", ".ci")
MADE_BY_COMMANDS = ("runs", ".venv")
NAME = r"[\w.*-]+"
ENDING = re.compile(r"\.(py|md|txt|json|toml|npz)$")


def paths_of_the_repository() -> set[str]:
    """Files and folders by their places below the root; those in nn and optim also as parts of minigrad."""
    links = {"minigrad": "", "minigrad/nn": "nn", "minigrad/optim": "optim"}
    tops = {name: ROOT / (links.get(name) or name) for name in (*FOLDERS, *links)}
    below = {
        f"{name}/{path.relative_to(top).as_posix()}"
        for name, top in tops.items()
        for path in top.rglob("*")
        if "__pycache__" not in path.parts
    }
    return below | set(tops) | {path.name for path in ROOT.iterdir()}


def paths_in(text: str) -> set[str]:
    """What looks like a path: between backticks, or after the name of one of the repository's folders."""
    quoted = re.findall(rf"`((?:{NAME}/)*{NAME}/?)`", text)
    written = re.findall(rf"(?<![\w/.`])((?:{'|'.join(map(re.escape, FOLDERS))})/(?:{NAME}/)*(?:{NAME})?)", text)
    return {path for path in (*quoted, *(w.rstrip(".") for w in written)) if "/" in path or ENDING.search(path)}


def paths_in_trees(text: str) -> set[str]:
    """The paths that a tree of indented names draws; a line names files, folders, or both, and then says why."""
    found, above = set(), []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        names = list(itertools.takewhile(lambda word: word.endswith(("/", ".py", ".md")), line.split()))
        if indent < 4 or not names:
            continue
        above = [(depth, name) for depth, name in above if depth < indent]
        found |= {"".join(name for _, name in above) + name for name in names}
        if names[0].endswith("/"):
            above.append((indent, names[0]))
    return found


def test_every_path_that_a_document_names_exists():
    """From the root, from the document's folder, or, as `ops/indexing.py`, as the end of one path at least."""
    known = paths_of_the_repository()
    missing = []
    for document in SPEAKING_OF_PATHS:
        text = document.read_text()
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        folder = document.parent.relative_to(ROOT).as_posix()
        for path in sorted(paths_in(prose) | paths_in_trees(prose)):
            plain = path.rstrip("/")
            first = plain.partition("/")[0]
            ends = [plain, f"{folder}/{plain}", *([] if first in FOLDERS else [f"*/{plain}"])]
            if first not in MADE_BY_COMMANDS and not any(fnmatch.filter(known, end) for end in ends):
                missing.append(f"{document.relative_to(ROOT)}: {path}")
    assert not missing, "paths that do not exist:\n" + "\n".join(missing)


def test_paths_are_found_in_prose_and_in_trees():
    assert paths_in("See `ops/a.py`, tests/nn/test_x.py, `x.y`, `1 / n` and optim/. `b.py`") == {
        *("ops/a.py", "tests/nn/test_x.py", "optim/", "b.py")
    }
    tree = "    minigrad/\n      ops/       every op\n        linalg/  more\n      a.py b.py  files\n    nn/  optim/\n"
    tree_paths = {
        "minigrad/",
        "minigrad/ops/",
        "minigrad/ops/linalg/",
        "minigrad/a.py",
        "minigrad/b.py",
        "nn/",
        "optim/",
    }
    assert paths_in_trees(tree) == tree_paths
