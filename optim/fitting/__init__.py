"""Least squares: the methods of `optim.least_squares`, each a model of the residuals and a rule of how far to trust it.

Read `linear_model` first, then `trust` and `fit_loop`, then what goes beyond the plain problem: `bounded_model`,
`robust_loss`, `matrix_free`. `least_squares` puts them together; `curve_fit` and `covariance` stand on top.
"""
