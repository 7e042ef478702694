"""Are derivatives right, and is everything finite?

`finite_differences` compares derivatives with differences of values (`gradcheck`), `anomaly` finds the op that made the
first NaN or infinity (`detect_anomaly`).
"""

from minigrad.checks.anomaly import AnomalyError, detect_anomaly
from minigrad.checks.finite_differences import GradcheckError, gradcheck, gradgradcheck

__all__ = ["AnomalyError", "GradcheckError", "detect_anomaly", "gradcheck", "gradgradcheck"]
