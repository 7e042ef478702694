"""Write down which of NumPy's names CuPy has, and how they are called: `python tests/support/collect_cupy_names.py`.

The list, cupy_names.txt beside this file, is what the strict stand-in backend offers, so that tests know CuPy without
having it. CuPy can be imported, and asked for its names, without a GPU. A line is a kind, a name and a signature:

    function sum (a, axis=None, dtype=None, out=None, keepdims=False)
    ufunc add at
"""

import inspect
import re
from pathlib import Path

import numpy as np

LIST = Path(__file__).with_name("cupy_names.txt")
MODULES = ("", "random", "linalg", "lib.stride_tricks")


def collected() -> list[str]:
    """The lines of the list, from the CuPy installed here. Raises ImportError where there is none."""
    import cupy
    import cupyx.scipy.special

    found = []
    for path in MODULES:
        theirs, ours = _inside(cupy, path), _inside(np, path)
        for name in sorted(set(dir(theirs)) & set(dir(ours))):
            if not name.startswith("_"):
                found += _described(f"{path}.{name}".lstrip("."), getattr(theirs, name))
    for name in ("erf", "erfcx"):
        found += _described(f"special.{name}", getattr(cupyx.scipy.special, name))
    for owner in (cupy.ndarray, cupy.random.Generator):
        for name in sorted(vars(owner) | dict.fromkeys(dir(owner))):
            if not name.startswith("_"):
                found += _described(f"{owner.__name__}.{name}", getattr(owner, name))
    return found


def _inside(module, path: str):
    for part in filter(None, path.split(".")):
        module = getattr(module, part)
    return module


def _described(name: str, value) -> list[str]:
    if type(value).__name__ in ("ufunc", "vectorize"):
        return [f"ufunc {name} {'at' if getattr(value, '_scatter_op', None) else ''}".rstrip()]
    if inspect.ismodule(value):
        return []
    if inspect.isclass(value) or not callable(value):
        return [f"value {name}"]
    return [f"function {name} {_signature(value)}".rstrip()]


def _signature(function) -> str:
    """The signature as text that Python can read, without types; empty where nobody knows it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled: the first line of its docstring has it
        match = re.match(r"[\w.]+\((.*)\)", (function.__doc__ or "").split("\n")[0])
        return f"({', '.join(map(_without_type, match[1].split(', ')))})" if match else ""
    plain = [p.replace(annotation=p.empty, default=_plain(p.default)) for p in parameters]
    return str(inspect.Signature(plain))


def _plain(default):
    return default if default is inspect.Parameter.empty or isinstance(default, (int, float, str)) else None


def _without_type(parameter: str) -> str:
    """`int axis=-1` as `axis=-1`."""
    name, equals, default = parameter.partition("=")
    return (
        name.split(" ")[-1]
        + equals
        + (default if re.fullmatch(r"-?\d+|'\w*'|True|False|None", default) else "None")[: None if equals else 0]
    )


if __name__ == "__main__":
    import cupy

    header = f"# CuPy {cupy.__version__}, NumPy {np.__version__}: written by tests/support/collect_cupy_names.py"
    LIST.write_text("\n".join([header, *collected()]) + "\n", encoding="utf-8")
    print(f"{LIST}: {len(collected())} names")
