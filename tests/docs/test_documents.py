"""The documents are true: every Python block in them runs, and CI runs the README's own test command."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(document: Path, language: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks whose language matches, in order."""
    return re.findall(rf"^```({language})\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("new_op")  # the ops that documents define leave the table again
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_python_block_of_a_document_runs_and_prints_what_it_says(document, tmp_path, monkeypatch, capsys):
    """The blocks of one document share their names, as a reader who types them in would have it.

    A block marked `output` is what the Python block before it prints, to the letter.
    """
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__document__"}
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
