"""The solvers that second_order.py compares: ours by their public names, SciPy's, PyTorch's L-BFGS.

Each is a function of a problem, which has `residuals`, and a start; it returns something with x and nfev. Ours
differentiate the residuals of Tensors; the others are handed the exact derivatives of the NumPy formula, except for
the one whose time is compared, which takes SciPy's own differences.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable

import numpy as np

import minigrad as mg
from minigrad import optim
from minigrad.optim.fitting.fit_methods import FIT_METHODS
from minigrad.optim.minimizers.descent_methods import DESCENT_METHODS

REFERENCE = "SciPy lm"
MANY = 10_000
Solver = Callable

# --- derivatives for the solvers that ask for them ---


def jacobian_of(residuals: Callable) -> Callable:
    """The Jacobian (m, n) by complex steps, exact to rounding, in NumPy."""

    def jacobian(x):
        h = 1e-40
        return np.stack([residuals(x + 1j * h * e).imag / h for e in np.eye(len(x))], axis=1)

    return jacobian


def sum_of_squares(problem) -> tuple[Callable, Callable, Callable]:
    """The function, its gradient and its Hessian, arrays in and out."""
    jacobian = jacobian_of(problem.residuals)

    def value(x):
        r = problem.residuals(x)
        return r @ r

    def gradient(x):
        return 2 * jacobian(x).T @ problem.residuals(x)

    def hessian(x):
        return mg.hessian(squared(problem))(mg.tensor(x)).numpy()

    return value, gradient, hessian


def squared(problem) -> Callable:
    """The sum of squares of Tensors."""

    def value(x):
        r = problem.residuals(x)
        return (r * r).sum()

    return value


# --- the solvers ---


def methods_of(name: str) -> list[str]:
    """The methods that `optim.minimize` or `optim.least_squares` knows, from its own table."""
    table = {"minimize": DESCENT_METHODS, "least_squares": FIT_METHODS}[name]
    others = ("projected l-bfgs", "hessian-free")  # for bounds, and for models whose loss is known apart
    return [method for method in table if method not in others]


def ours_least_squares(method: str, **options) -> Solver:
    return lambda problem, x0: optim.least_squares(problem.residuals, x0, method=method, **options)


def ours_minimize(method: str) -> Solver:
    return lambda problem, x0: optim.minimize(squared(problem), x0, method=method)


def scipy_least_squares(exact: bool = True, **options) -> Solver:
    from scipy.optimize import least_squares

    def solve(problem, x0):
        jacobian = jacobian_of(problem.residuals) if exact else "2-point"
        return least_squares(problem.residuals, x0, jacobian, **options)

    return solve


def scipy_minimize(method: str, hessian: bool = False, **options) -> Solver:
    from scipy.optimize import minimize

    def solve(problem, x0):
        value, gradient, second = sum_of_squares(problem)
        return minimize(value, x0, jac=gradient, hess=second if hessian else None, method=method, options=options)

    return solve


def pytorch_lbfgs(**options) -> Solver:
    """PyTorch's L-BFGS with its strong Wolfe search, the gradient handed to it."""
    import torch

    def solve(problem, x0):
        value, gradient, _ = sum_of_squares(problem)
        x = torch.tensor(x0, dtype=torch.float64, requires_grad=True)
        calls = 0

        def closure():
            nonlocal calls
            calls += 1
            at = x.detach().numpy()
            x.grad = torch.from_numpy(gradient(at))
            return torch.tensor(value(at))

        limits = {"max_iter": MANY, "max_eval": MANY}
        torch.optim.LBFGS([x], line_search_fn="strong_wolfe", **limits, **options).step(closure)
        return argparse.Namespace(x=x.detach().numpy(), nfev=calls)

    return solve


TIGHT = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": MANY}


def nist_solvers() -> dict[str, Solver]:
    """The least-squares methods; SciPy's reference first, so that it is timed first in each round."""
    return {
        REFERENCE: scipy_least_squares(exact=False, method="lm"),
        **{f"minigrad {name}": ours_least_squares(name) for name in methods_of("least_squares")},
        "SciPy lm, exact Jacobian": scipy_least_squares(method="lm"),
        "SciPy lm, exact Jacobian, 1e-15": scipy_least_squares(method="lm", **TIGHT),
        "SciPy trf, scaled, exact Jacobian, 1e-15": scipy_least_squares(method="trf", x_scale="jac", **TIGHT),
    }


def mgh_solvers() -> dict[str, Solver]:
    solvers = {f"minigrad {name}": ours_least_squares(name) for name in methods_of("least_squares")}
    solvers |= {f"minigrad {name}": ours_minimize(name) for name in methods_of("minimize")}
    solvers |= {
        "SciPy lm, 1e-15": scipy_least_squares(method="lm", **TIGHT),
        "SciPy trust-exact, 1e-9": scipy_minimize("trust-exact", hessian=True, gtol=1e-9, maxiter=MANY),
        "SciPy Newton-CG, 1e-12": scipy_minimize("Newton-CG", hessian=True, xtol=1e-12, maxiter=1000),
        "SciPy BFGS": scipy_minimize("BFGS"),
        "SciPy BFGS, 1e-9": scipy_minimize("BFGS", gtol=1e-9, maxiter=MANY),
        "SciPy L-BFGS-B": scipy_minimize("L-BFGS-B"),
        "SciPy L-BFGS-B, tight": scipy_minimize("L-BFGS-B", gtol=1e-9, ftol=1e-15, maxiter=MANY, maxfun=MANY),
        "SciPy CG, 1e-9": scipy_minimize("CG", gtol=1e-9, maxiter=MANY),
    }
    if importlib.util.find_spec("torch"):
        solvers["PyTorch L-BFGS"] = pytorch_lbfgs()
        solvers["PyTorch L-BFGS, tight"] = pytorch_lbfgs(tolerance_grad=1e-9, tolerance_change=1e-15)
    return solvers
