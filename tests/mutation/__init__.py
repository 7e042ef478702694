"""The mutation check: would the tests notice if a derivative rule were wrong?

    python tests/mutation --workers 2                # every rule; some minutes
    python tests/mutation --ops "max|min|cumprod"    # the rules of some ops
    python tests/mutation --ops tanh --list          # what would be tried

Each rule is broken in one place at a time (a sign, a factor, an exchanged argument, a missing term, a wrong axis, ...),
and the tests of the op table and their neighbours are run until one fails. A mutant that fails none is a survivor: a
check is missing, or the mutant computes the same, which equivalent.py then says, with the reason.

units.py finds the rules, mutants.py breaks them, checks.py runs the tests, __main__.py counts.
"""
