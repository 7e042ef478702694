"""The tests, in folders that mirror the packages: the test of `minigrad/ops/...` stands in `tests/ops/`, and so on.

laws/ : what crosses the packages: the table of ops, laws of derivatives, random graphs, peers, devices
docs/ : the documents, the examples, and the layout of the repository
support/ : what tests share: strategies, stand-ins, tables of cases; no test imports from another test
mutation/ : a check of the tests themselves, run by hand: `python tests/mutation`

Every folder is a package, so that `from tests.support...` is the same import for a run of everything, of one file, and
of `tests/mutation`, and so that two folders may each have a test_edges.py.
"""
