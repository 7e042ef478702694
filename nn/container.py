"""Containers: Sequential calls its modules one after the other, ModuleList only holds them.

Both are a Module whose submodules are named '0', '1', ... by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Self, overload

from minigrad import Tensor

from .fusion import lies_on_gpu, with_relus_fused
from .module import Module


class ModuleList(Module):
    """A list whose modules are registered, for a `forward` that calls them in its own way.

    Raises
    ------
    TypeError
        For an entry that is not a Module.
    IndexError
        For an index that is out of range.
    """

    _modules: dict[str, Module]  # type: ignore[assignment]  # a container has no entry that is None

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end; returns the container."""
        self._add(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; returns the container."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before the one at `index`; all are numbered anew. Returns the container."""
        modules = list(self)
        modules.insert(index, module)
        return self._refill(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return self._like(list(self._modules.items())[index])
        return self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self._add(self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._refill(modules)

    def _like(self, named: list[tuple[str, Module]]) -> ModuleList:
        return ModuleList(module for _, module in named)

    def _name(self, index: int) -> str:
        if not isinstance(index, int):
            raise TypeError(f"{type(self).__name__}: expected an integer or a slice, got {type(index).__name__}.")
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: no module {index}; it holds {len(self)}.")
        return list(self._modules)[index]

    def _add(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: entry {name} must be a Module, got {_what_it_is(module)}.")
        self.add_module(name, module)

    def _refill(self, modules: Iterable[Module]) -> Self:
        for name in list(self._modules):
            delattr(self, name)
        return self.extend(modules)


def _what_it_is(module: object) -> str:
    """What was given for a Module, and what to do."""
    name = getattr(module, "__name__", type(module).__name__)
    if isinstance(module, type):
        return f"the class {name}; make a layer of it with brackets, as in ReLU()"
    if callable(module):
        return (
            f"the function {name}; take the layer of that name, as nn.Tanh() for minigrad.tanh, or write a Module "
            "whose forward calls it"
        )
    return f"a {name}; unpack lists with *"


class Sequential(ModuleList):
    """Modules called in a chain, the output of each being the input of the next.

    Parameters
    ----------
    *modules : Modules; or one mapping from names to Modules, which then stand in `state_dict` instead of numbers

    A slice is a Sequential of the same modules, under the same names if they were named. On a GPU a layer and the ReLU
    behind it are run as one (see `fusion`).
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._add(name, module)
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if lies_on_gpu(x):
            return with_relus_fused(list(self._modules.values()), x)
        for module in self._modules.values():
            x = module(x)
        return x

    def _like(self, named: list[tuple[str, Module]]) -> Sequential:
        return Sequential(*(m for _, m in named)) if all(n.isdigit() for n, _ in named) else Sequential(dict(named))
