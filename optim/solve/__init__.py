"""What `minimize` and `least_squares` share, so that neither imports the other: the problem, and what comes back.

Read `variables` first (the unknowns as one flat vector), then `problem`, `objective` and `residuals` (the user's
function as points with derivatives) and `bounds`, then `result` and `callbacks`. `vectors` and `interpolation` are
small helpers.
"""
