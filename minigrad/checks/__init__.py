"""Whether derivatives are right: `finite_differences` compares them with differences, `anomaly` finds the first NaN.

`deferred` is for what is found wrong on a GPU, which nobody waits for.
"""

from minigrad.checks import deferred
from minigrad.checks.anomaly import AnomalyError, detect_anomaly
from minigrad.checks.finite_differences import GradcheckError, gradcheck, gradgradcheck

__all__ = ["AnomalyError", "GradcheckError", "deferred", "detect_anomaly", "gradcheck", "gradgradcheck"]


def __dir__() -> list[str]:
    return sorted(__all__)
