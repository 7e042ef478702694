"""The second-order optimizers of models: methods of `minimize` and `least_squares` that take `step(closure)`.

Read `closure_problems` first (a closure as a function of one flat vector), then `closure_optimizer` (what a step does),
then `model_optimizers` (the five classes).
"""
