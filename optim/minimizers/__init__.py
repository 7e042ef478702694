"""Minimizing a function of many variables: the methods of `optim.minimize`, each a direction times a step rule.

Read `direction` and `descent_loop` first, then `line_search` and `trust_region` (how far to go), then the directions
from the simplest on: `steepest_descent`, `nonlinear_cg`, `bfgs`, `lbfgs`, `lbfgsb`, `newton`, `newton_cg`,
`hessian_free`. `descent_methods` pairs them by name, and `minimize` runs a pair.
"""
