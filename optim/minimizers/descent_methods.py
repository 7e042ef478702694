"""The methods of `minimize` by their names: which direction goes with which step rule.

A method is made anew for each run from the user's options. The five Newton methods differ in two choices: the matrix as
a whole or only products with it; and a line search, or a trust region.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .bfgs import BFGSDirection
from .direction import Direction, StepRule
from .hessian_free import HessianFreeDirection
from .lbfgs import LBFGSDirection
from .lbfgsb import ProjectedLBFGSDirection, ProjectedSearch
from .line_search import line_search
from .method_options import OptionValues
from .newton import NewtonDirection
from .newton_cg import NewtonCGDirection
from .nonlinear_cg import NonlinearCGDirection
from .saddles import PastSaddles
from .steepest_descent import SteepestDirection
from .trust_region import TrustRegion


class Method(NamedTuple):
    """A direction times a step rule, as two functions of the user's options (a mapping).

    direction : Callable, from the options to a fresh Direction
    step_rule : Callable, from the options to a fresh StepRule
    """

    direction: Callable[[OptionValues], Direction]
    step_rule: Callable[[OptionValues], StepRule]


# --- directions, from the options ---


def _steepest(options: OptionValues) -> SteepestDirection:
    return SteepestDirection(unscaled=options.get("line_search") == "fixed")


def _nonlinear_cg(options: OptionValues) -> NonlinearCGDirection:
    return NonlinearCGDirection(options.get("beta", "hz"), options.get("memory", 20))


def _bfgs(options: OptionValues) -> BFGSDirection:
    return BFGSDirection(options.get("damping", False))


def _lbfgs(options: OptionValues) -> LBFGSDirection:
    return LBFGSDirection(options.get("memory", 20))


def _projected_lbfgs(options: OptionValues) -> ProjectedLBFGSDirection:
    return ProjectedLBFGSDirection(options.get("memory", 20))


def _newton(options: OptionValues) -> NewtonDirection:
    return NewtonDirection(options.get("alpha", 0.0), options.get("repair", "cholesky"))


def _newton_cg(options: OptionValues) -> NewtonCGDirection:
    return NewtonCGDirection(options.get("max_products"))


def _hessian_free(options: OptionValues) -> HessianFreeDirection:
    return HessianFreeDirection(options.get("damping", 0.01), options.get("max_products", 250))


# --- step rules, from the options ---


def _armijo(options: OptionValues) -> StepRule:
    return line_search(options, "armijo")


def _strong_wolfe(options: OptionValues) -> StepRule:
    return line_search(options, "strong wolfe")


def _tight_wolfe(options: OptionValues) -> StepRule:
    """Nonlinear conjugate gradients need lengths nearer to the minimum along the line."""
    return line_search(options, "strong wolfe", c2=0.4)


def _trust_region(options: OptionValues) -> PastSaddles:
    first, most = options.get("initial_trust_radius"), options.get("max_trust_radius", math.inf)
    return PastSaddles(TrustRegion(first, most, options.get("eta", 1e-4)))


DESCENT_METHODS: dict[str, Method] = {
    "gradient descent": Method(_steepest, _armijo),
    "cg": Method(_nonlinear_cg, _tight_wolfe),
    "bfgs": Method(_bfgs, _strong_wolfe),
    "l-bfgs": Method(_lbfgs, _strong_wolfe),
    "projected l-bfgs": Method(_projected_lbfgs, lambda options: ProjectedSearch()),
    "newton": Method(_newton, lambda options: PastSaddles(_strong_wolfe(options))),
    "trust-exact": Method(lambda options: NewtonDirection(), _trust_region),
    "newton-cg": Method(_newton_cg, lambda options: PastSaddles(_strong_wolfe(options))),
    "trust-ncg": Method(_newton_cg, _trust_region),
    "hessian-free": Method(_hessian_free, lambda options: PastSaddles(_armijo(options))),
}
"""Every method by its name, in small letters: SciPy's name where it has one, as are the names of the options.

"projected l-bfgs" is what "l-bfgs" becomes between bounds.
"""

ALIASES = {
    "gd": "gradient descent",
    "steepest descent": "gradient descent",
    "lbfgs": "l-bfgs",
    "l-bfgs-b": "l-bfgs",
    "trust-region": "trust-exact",
    "newton-tr": "trust-exact",
    "hf": "hessian-free",
}
"""Other names of methods."""
