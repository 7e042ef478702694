"""`optim/` stands at the top of the repository and can be imported by one name only, `minigrad.optim`.

Imported as `optim` it would be a second copy, whose classes are not those of the first: `Lookahead` would refuse its
Adam.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve()
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent


@pytest.mark.parametrize("line", ["import optim", "from optim import Adam", "import optim.lr_scheduler"])
def test_the_folder_cannot_be_imported_by_its_bare_name(line):
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError" in done.stderr and "from minigrad import optim" in done.stderr
