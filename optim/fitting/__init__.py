"""Least squares: the methods of `optim.least_squares`, each a model of the residuals and a rule of how far to trust it.

Read `local_model` and `linear_model` first, then `scaling`, `trust` and `fit_loop`, then what goes beyond the plain
problem: `bounded_model`, `robust_loss`, `matrix_free`. `fit_methods` names the pairs, `least_squares` runs one;
`curve_fit` and `covariance` stand on top.
"""
