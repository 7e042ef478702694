"""The log of `benchmarks.gpu` lists the kernels of a step by name, those that take longest first."""

from benchmarks import gpu


def test_launches_are_added_up_by_name_and_divided_by_the_steps():
    times = [("short", 2.0), ("long", 5.0), ("short", 4.0), ("long", 5.0)]
    assert gpu.by_name(times, 2) == [("long", 1.0, 5.0), ("short", 1.0, 3.0)]


def test_the_log_has_a_table_of_them_for_each_row():
    row = {"model": "lenet5", "batch": 64, "precision": "float32"}
    kernels = gpu.by_name([("max_pool", 1.5)] * 3, 2)
    lines = gpu.listed(row | {"profiles": {"minigrad": {"kernels": kernels}}})
    assert lines[0] == "### lenet5, batch 64, float32" and "| `max_pool` | 1.5 | 2.2 |" in lines
    assert gpu.listed(row | {"profiles": {}}) == []  # where nothing could be profiled
