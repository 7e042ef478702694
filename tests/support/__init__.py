"""What tests share. Nothing here is a test of minigrad; the two test files are of the helpers themselves.

strategies : what the property tests draw: arrays, axes, indices, directions
op_cases/ : the table of all ops, with how to call each and who else knows the answer
law_cases, anomaly_troubles : tables of functions with a known property, and of what makes a NaN
naive_engine, random_graphs/ : another engine, and the machine that grows the same graph in both
strict_backend, strict_linalg, cupy_names.txt : a stand-in for CuPy that refuses what CuPy refuses
device_agreement : whether a device gives the CPU's results
problems/ : published problems for solvers, with certified answers
optim_zoo, optim_makers, closure_models, regularization_makers : optimizers by their formulas, and models for them
kernel_cases, nn_cases, nn_peers : arrays and layers in tables, and comparisons of modules with PyTorch's
*_makers, makers : small tensors, models and comparisons for the tests of one package
imports : who imports whom
"""
