"""Module: what every layer, loss and model is.

After this file you know that a module is an object with three registers (parameters, buffers, submodules), filled by
plain assignment (`self.weight = Parameter(...)`), and that everything else, from `state_dict` to `to("cuda")`, is a
walk over them. What is registered also stands in the instance's `__dict__`, so that reading `self.weight` in a forward
pass costs no more than any other attribute.
"""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, Self

from numpy.typing import ArrayLike, DTypeLike

import minigrad as mg
from minigrad import HookHandle, Tensor

from .model_summary import Summary, summary
from .parameter import Parameter

_hook_number = count()


class IncompatibleKeys(NamedTuple):
    """The names that `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


MOST_LEVELS = 100
"""How deep modules may stand in one another. A call takes two of the thousand frames that Python allows for each level,
a deep copy six."""


class Module:
    """The base of layers, losses and models: a function with parameters.

    Subclasses call `super().__init__()`, assign Parameters, Modules and (with `register_buffer`) other tensors that
    belong to the state, and define `forward`. Calling the module calls `forward`.
    """

    training = True
    _levels = 1  # of modules in one another, this one included
    _forward_hooks: Mapping[int, Callable] = {}
    _containers: tuple[str, ...] = ()  # attributes that are plain lists or dicts, which may hold layers by mistake
    _told = False  # that they do
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        mg.autograd.explain_constructor(cls)

    def __init__(self) -> None:
        for register in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, register, {})
        object.__setattr__(self, "_not_saved", frozenset())

    # --- calling ---

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        if self._forward_hooks:
            return self._call_with_hooks(args, options)
        try:
            return self.forward(*args, **options)
        except Exception as error:
            if type(self).__module__.startswith("minigrad."):
                return mg.autograd.layer_failure(self, args, options, error)
            raise

    def forward(self, *args: Any, **options: Any) -> Any:
        """Compute the module's output, usually one Tensor; defined by subclasses."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(); define what a call of it computes.")

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> HookHandle:
        """Call `hook(module, arguments, output)` after each forward; what it returns, if not None, is the new output.

        Returns a handle whose `remove()` takes the hook off again.
        """
        key = next(_hook_number)
        self._forward_hooks = {**self._forward_hooks, key: hook}

        def remove() -> None:
            self._forward_hooks = {k: h for k, h in self._forward_hooks.items() if k != key}

        return HookHandle(remove)

    def _call_with_hooks(self, args: tuple, options: dict[str, Any]) -> Any:
        output = self.forward(*args, **options)
        for hook in tuple(self._forward_hooks.values()):
            replaced = hook(self, args, output)
            output = output if replaced is None else replaced
        return output

    # --- registering ---

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Register a parameter, as `self.<name> = parameter` does; None reserves the name of one that is left out."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(f"{self._place(name)}: expected a Parameter or None, got {_kind(parameter)}.")
        self._register("_parameters", name, parameter)
        if parameter is not None:
            parameter.name = name

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a tensor that is part of the state but not trained, such as a running mean.

        It moves with `to` and, if `persistent`, is saved in `state_dict`.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"{self._place(name)}: a buffer must be a Tensor or None, got {_kind(tensor)}; use mg.tensor(...)."
            )
        self._register("_buffers", name, tensor)
        object.__setattr__(self, "_not_saved", self._not_saved - {name} if persistent else self._not_saved | {name})

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a submodule, as `self.<name> = module` does; its parameters get names that begin with this one."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{self._place(name)}: expected a Module or None, got {_kind(module)}.")
        levels = 1 + (0 if module is None else module._levels)
        if levels > MOST_LEVELS:
            raise ValueError(
                f"{self._place(name)}: modules in modules, more than {MOST_LEVELS} levels deep; Python could "
                "not call or copy such a model. Put the layers side by side, as in nn.Sequential(*layers)."
            )
        self._register("_modules", name, module)
        object.__setattr__(self, "_levels", max(self._levels, levels))
        if module is not None:
            for path, parameter in module.named_parameters(prefix=name):
                parameter.name = path

    def _register(self, register: str, name: str, value: Any) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{type(self).__name__}: cannot register under {name!r}; a name is a str without dots.")
        if hasattr(Module, name):
            raise AttributeError(
                f"{self._place(name)}: every module has a {name!r} of its own, which this would hide; choose another."
            )
        for other in ("_parameters", "_buffers", "_modules"):
            if other != register:
                getattr(self, other).pop(name, None)
        getattr(self, register)[name] = value
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif name in self.__dict__.get("_parameters", ()):
            if isinstance(value, Tensor):
                raise TypeError(
                    f"{self._place(name)} is a parameter and was given a plain Tensor; assign Parameter(tensor), or "
                    f"overwrite the values with .{name}.copy_(tensor)."
                )
            self.register_parameter(name, value)
        elif name in self.__dict__.get("_buffers", ()):
            self.register_buffer(name, value, persistent=name not in self._not_saved)
        elif name in self.__dict__.get("_modules", ()):
            self.add_module(name, value)
        else:
            growing = isinstance(value, (list, dict)) and name != "_forward_hooks"
            if growing or (isinstance(value, tuple) and held_in(value)):
                object.__setattr__(self, "_containers", tuple({*self._containers, name}))
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for register in ("_parameters", "_buffers", "_modules"):
            getattr(self, register).pop(name, None)
        object.__delattr__(self, name)

    def __getattr__(self, name: str) -> Any:  # only called for what is not there
        kind = type(self).__name__
        if name in ("_parameters", "_buffers", "_modules", "_not_saved"):
            raise AttributeError(
                f"{kind}: its Module part is not set up; call super().__init__() first thing in "
                f"{kind}.__init__, before assigning layers or parameters."
            )
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)

    def _place(self, name: str) -> str:
        return f"{type(self).__name__}.{name}"

    # --- walking ---

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        return (module for _, module in self.named_children())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once, a module before its submodules."""
        return (module for _, module in self.named_modules())

    def named_modules(self, prefix: str = "", _seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """This module and all below it with their dotted names ('' for itself), each once."""
        seen = set() if _seen is None else _seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(_join(prefix, name), seen)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, if `recurse`, of all below it; a shared one comes once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names, such as 'features.0.weight'."""
        return self._named("_parameters", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The tensors that are state but not trained."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their dotted names."""
        return self._named("_buffers", prefix, recurse)

    def _named(self, register: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            if module._containers and not module._told and not prefix:
                self._tell_of_unregistered(module)
            for name, value in getattr(module, register).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def unregistered(self) -> list[str]:
        """What plain lists, tuples and dicts hold of layers and parameters: they are not trained, moved or saved.

        One sentence for each such attribute of this module and of all below it, with what to use instead.
        """
        registered = {id(one) for one in self.modules()}
        registered |= {id(p) for module in self.modules() for p in module._parameters.values()}
        found = []
        for path, module in self.named_modules():
            for name in module._containers:
                value = getattr(module, name, None)
                lost = [one for one in held_in(value) if id(one) not in registered]
                if lost:
                    kinds = ", ".join(sorted({type(one).__name__ for one in lost}))
                    found.append(
                        f"{_join(path, name)} is a {type(value).__name__} that holds {len(lost)} of {kinds}, which are "
                        "not registered: they are not trained, moved or saved. Use nn.ModuleList([...]) for layers, "
                        "and an attribute of its own for each Parameter."
                    )
        return found

    def _tell_of_unregistered(self, module: Module) -> None:
        """Warn, once for each module, of layers that `parameters` does not see."""
        found = module.unregistered() if self is module else self.unregistered()
        if found:
            for one in self.modules():
                object.__setattr__(one, "_told", bool(one._containers))
            warnings.warn(f"{type(self).__name__}: {' '.join(found)}", stacklevel=4)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module below this one, then on this one; returns the module. For initialisation."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- modes, gradients, places ---

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch-norm uses the batch) here and in all submodules."""
        if not isinstance(mode, bool):
            raise ValueError(f"train(): expected True or False, got {mode!r}.")
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set `.grad` of all parameters to None."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or thaw (True) all parameters."""
        for path, parameter in self.named_parameters():
            parameter.requires_grad_(requires_grad)
            parameter.name = parameter.name or path
        return self

    def to(self, *targets: DTypeLike) -> Self:
        """Move all parameters and buffers to a device, or convert the floating-point ones to a dtype, in place.

        `model.to("cuda")`, `model.to(np.float64)`, `model.to("cuda", np.float16)`. The Parameter objects stay the same;
        gradients are dropped.
        """
        for target in targets:
            if isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda"):
                self._convert(target, floats_only=False)
                continue
            dtype = mg.zeros((), dtype=target).dtype
            if dtype.kind != "f":
                raise TypeError(f"to({target!r}): a module computes in floating point; expected float16, 32 or 64.")
            self._convert(dtype, floats_only=True)
        return self

    def _convert(self, target: DTypeLike, floats_only: bool) -> None:
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.dtype.kind == "f" or not floats_only:
                moved = tensor.detach().to(target).data
                if moved is not tensor.data:
                    tensor.replace_data(moved)

    def cpu(self) -> Self:
        """Move to the host: `to("cpu")`."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Move to the GPU: `to("cuda")`."""
        return self.to("cuda")

    def float(self) -> Self:
        """Convert to float32."""
        return self.to(mg.float32)

    def double(self) -> Self:
        """Convert to float64."""
        return self.to(mg.float64)

    # --- state ---

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, in PyTorch's order; detached, sharing memory."""
        return OrderedDict((path, tensor.detach()) for path, tensor in self._state())

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for name, value in {**self._parameters, **self._buffers}.items():
            if value is not None and name not in self._not_saved:
                yield _join(prefix, name), value
        for name, module in self._modules.items():
            if module is not None:
                yield from module._state(_join(prefix, name))

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Overwrite parameters and buffers with those of a `state_dict`: Tensors, or NumPy arrays, from any device.

        Parameters
        ----------
        state_dict : mapping from dotted names to Tensors or arrays
        strict : bool
            Whether missing and unexpected names are errors; otherwise they are passed over and returned.

        Raises
        ------
        ValueError
            Names all that is missing, unexpected or of another shape; the module is then unchanged.
        TypeError
            Something that is no dict, or an entry that is no array.
        """
        if not isinstance(state_dict, Mapping):
            path = isinstance(state_dict, (str, os.PathLike))
            hint = " Load the file first: model.load_state_dict(mg.load(path))." if path else ""
            raise TypeError(
                f"load_state_dict: expected a dict of names and Tensors, got a {type(state_dict).__name__}.{hint}"
            )
        own = dict(self._state())
        given = {name: _as_state(name, value) for name, value in state_dict.items()}
        missing = [name for name in own if name not in given]
        unexpected = [name for name in given if name not in own]
        misshapen = [
            f"{name}: given {given[name].shape}, expected {tensor.shape}"
            for name, tensor in own.items()
            if name in given and given[name].shape != tensor.shape
        ]
        wrong = [("of another shape", misshapen)]
        if strict:
            wrong += [("missing", missing), ("unexpected", unexpected)]
        if any(entries for _, entries in wrong):
            lists = "".join(f"\n  {what}:" + "".join(f"\n    {e}" for e in es) for what, es in wrong if es)
            raise ValueError(
                f"load_state_dict: the state does not fit this {type(self).__name__}, which is left as it was.{lists}"
                + (
                    "\nstrict=False passes over missing and unexpected names."
                    if strict and missing + unexpected
                    else ""
                )
            )
        for name, tensor in own.items():
            if name in given:
                tensor.copy_(given[name].to(tensor.device))
        return IncompatibleKeys(missing, unexpected)

    # --- showing ---

    def summary(self, x: Tensor | Sequence[Tensor] | tuple[int, ...], dtype: DTypeLike | None = None) -> Summary:
        """A table of layers, output shapes, parameters and multiply-adds. See `minigrad.nn.summary`."""
        return summary(self, x, dtype=dtype)

    def multiply_adds(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """How many products of weights and inputs one call adds up; layers that have such products say how many."""
        return 0

    def extra_repr(self) -> str:
        """What stands between the brackets of the module's repr."""
        return ""

    def __repr__(self) -> str:
        kind, extra = type(self).__name__, self.extra_repr()
        if not self._modules:
            return f"{kind}({extra})"
        lines = [extra] if extra else []
        lines += [f"({name}): {module!r}" for name, module in self._modules.items()]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{kind}(\n  {body}\n)"


def held_in(value: object, depth: int = 3) -> list[Module | Parameter]:
    """The modules and parameters in lists, tuples and dicts, and in those inside of them."""
    if isinstance(value, (Module, Parameter)):
        return [value]
    if not isinstance(value, (list, tuple, dict)) or not depth:
        return []
    parts = value.values() if isinstance(value, dict) else value
    return [one for part in parts for one in held_in(part, depth - 1)]


mg.autograd.explain_constructor(Module)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _as_state(name: str, value: ArrayLike) -> Tensor:
    try:
        return mg.as_tensor(value).detach()
    except (TypeError, ValueError) as error:
        raise type(error)(f"load_state_dict: entry {name!r} is not an array: {error}") from error
