"""`nn/` and `optim/` stand at the top of the repository and are imported as `minigrad.nn` and `minigrad.optim` only.

Imported as `nn` or `optim` they would be second copies, whose classes differ from the first's: `Lookahead` would refuse
its Adam, and a Module would refuse its Parameter.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("line", ["import {0}", "from {0} import {1}", "import {0}.{2}"])
@pytest.mark.parametrize("package, member, module", [("nn", "Linear", "functional"), ("optim", "Adam", "lr_scheduler")])
def test_the_folder_cannot_be_imported_by_its_bare_name(package, member, module, line):
    command = [sys.executable, "-c", line.format(package, member, module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError" in done.stderr and f"from minigrad import {package}" in done.stderr
