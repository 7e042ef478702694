"""The second-order optimizers of models: methods of `minimize` and `least_squares` that take `step(closure)`.

Read `borrowing`, `closure_objective` and `closure_residuals` first (a closure as a function of one flat vector), then
`closure_optimizer` (what a step does), then the classes: `quasi_newton`, `newton_optimizer`, `nonlinear_least_squares`.
"""
