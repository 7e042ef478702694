"""`GradScaler`: a scale for the loss, so that gradients in float16 do not become 0, and that follows what they bear.

On a GPU scale, count and verdicts stay on the device: kernels read them there (minigrad/backend/gpu/gradients.cu), the
host waits for nothing, and a captured step can contain all of it. The scale is taken out of the gradients by the
optimizer's own kernel while it reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import optim
from minigrad.autograd import Tensor, no_grad
from minigrad.backend import Array, device_of, namespace, to_device
from minigrad.backend.gpu import gradients as on_device
from minigrad.optim.nonfinite import all_finite

FRESH, UNSCALED, STEPPED = "fresh", "unscaled", "stepped"  # what was done with an optimizer since the last update


class GradScaler:
    """Scales the loss before the backward pass, and the gradients back before the optimizer's step.

    Gradients that overflowed in float16 make the step be left out and the scale be multiplied by `backoff_factor`;
    after `growth_interval` good steps in a row the scale is multiplied by `growth_factor` (Micikevicius et al. 2018,
    "Mixed precision training", section 3.2, with a scale that adapts).

    Parameters
    ----------
    init_scale : float
    growth_factor : float
        Above 1.
    backoff_factor : float
        Between 0 and 1.
    growth_interval : int
        1 or more.
    enabled : bool
        False makes all methods do without a scale.

    Notes
    -----
    After `step` the gradients are those of the scaled loss, where they lie on a GPU; to look at them, or to clip them,
    call `unscale_` before.
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if not init_scale > 0:
            raise ValueError(f"GradScaler: init_scale={init_scale!r}; expected a number above 0.")
        self._enabled = bool(enabled)
        self._scale: Any = np.full(1, init_scale, np.float32)  # on the host until the first loss comes
        self._tracker: Any = np.zeros(1, np.int32)
        self.set_growth_factor(growth_factor)
        self.set_backoff_factor(backoff_factor)
        self.set_growth_interval(growth_interval)
        self._stages: dict[int, str] = {}
        self._verdicts: dict[int, Any] = {}
        self._kept: dict[int, tuple[Any, Any]] = {}  # device memory for each optimizer's verdict, and the optimizer

    # --- a step ---

    def scale(self, outputs: Any) -> Any:
        """A loss, or a tuple, list or dict of Tensors, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            self._move_to(outputs.data)
            return outputs * Tensor(self._scale.reshape(()))
        if isinstance(outputs, dict):
            return {name: self.scale(output) for name, output in outputs.items()}
        if isinstance(outputs, (tuple, list)):
            return type(outputs)(map(self.scale, outputs))
        raise TypeError(f"GradScaler.scale: expected a Tensor, or a tuple, list or dict, got {type(outputs).__name__}.")

    def unscale_(self, optimizer: optim.Optimizer) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, so that they can be clipped before `step`."""
        if not self._enabled:
            return
        stage = self._stages.get(id(optimizer), FRESH)
        if stage != FRESH:
            when = "unscale_() has already been called" if stage == UNSCALED else "step() has been called"
            raise RuntimeError(f"GradScaler.unscale_: {when} for this optimizer since the last update().")
        params = _with_gradients(optimizer)
        gradients: list[Any] = [p.grad.data for p in params if p.grad is not None]
        if gradients:
            self._move_to(gradients[0])
        if on_device.takes(gradients):
            verdict: Any = self._device_verdict(optimizer, gradients[0])
            on_device.look_for_nonfinite(gradients, verdict)
            new = on_device.unscale(gradients, self._scale)
        else:
            verdict = not all_finite(params)
            inverse = (1 / self._scale.astype(np.float64)).astype(np.float32)
            new = [(g * inverse.reshape(())).astype(g.dtype, copy=False) for g in gradients]
        for p, g in zip(params, new, strict=True):
            p.grad = Tensor(g)
        self._verdicts[id(optimizer)], self._stages[id(optimizer)] = verdict, UNSCALED

    def step(self, optimizer: optim.Optimizer, *args: Any, **options: Any) -> Any:
        """Let the optimizer step with the gradients, unscaled, unless one of them is NaN or infinite.

        Returns what the optimizer returns. A closure is an error: the scale is taken out once.
        """
        if not self._enabled:
            return optimizer.step(*args, **options)
        if "closure" in options or args:
            raise RuntimeError(
                "GradScaler.step: closures are not supported; compute the loss and call backward before."
            )
        stage = self._stages.get(id(optimizer), FRESH)
        if stage == STEPPED:
            raise RuntimeError("GradScaler.step: it was called for this optimizer before; call update() in between.")
        gradients: list[Any] = [p.grad.data for p in _with_gradients(optimizer)]
        if not gradients:
            raise RuntimeError("GradScaler.step: none of the optimizer's parameters has a gradient; call backward().")
        self._move_to(gradients[0])
        result = None
        if type(optimizer).step is optim.Optimizer.step and optimizer.decides_on_device():
            with no_grad():
                if stage == FRESH:
                    optimizer._take_step(scale=self._scale)
                    self._verdicts[id(optimizer)] = optimizer._verdict
                else:
                    optimizer._take_step(known=self._verdicts[id(optimizer)])
        else:
            if stage == FRESH:
                self.unscale_(optimizer)
            if not _is_bad(self._verdicts[id(optimizer)]):
                result = optimizer.step()
        self._stages[id(optimizer)] = STEPPED
        return result

    def update(self, new_scale: float | None = None) -> None:
        """Set the scale for the next step: by what was found in this one's gradients, or to `new_scale`."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale[...] = float(new_scale)
        elif not self._verdicts:
            raise RuntimeError("GradScaler.update: no gradients were looked at since the last one; call step() before.")
        elif all(isinstance(verdict, bool) for verdict in self._verdicts.values()):
            self._update_on_host(any(self._verdicts.values()))
        else:
            verdicts = [verdict for verdict in self._verdicts.values() if not isinstance(verdict, bool)]
            worst = verdicts[0]
            for verdict in verdicts[1:]:
                worst = worst | verdict
            if any(verdict is True for verdict in self._verdicts.values()):
                worst = namespace(worst).ones_like(worst)
            on_device.update_scale(
                self._scale, self._tracker, worst, self._growth_factor, self._backoff_factor, self._growth_interval
            )
        self._verdicts, self._stages = {}, {}

    def _update_on_host(self, found: bool) -> None:
        """The same as the kernel `update_scale`, in array code: the scale may lie on a device."""
        if found:
            self._scale *= np.float32(self._backoff_factor)
            self._tracker[...] = 0
            return
        self._tracker += 1
        if int(self._tracker[0]) == self._growth_interval:
            larger = np.float32(float(self._scale[0])) * np.float32(self._growth_factor)
            if np.isfinite(larger):
                self._scale[...] = float(larger)
            self._tracker[...] = 0

    # --- the numbers ---

    def is_enabled(self) -> bool:
        """Whether there is a scale."""
        return self._enabled

    def get_scale(self) -> float:
        """The scale, 1 if disabled. On a GPU the host waits for it."""
        return float(self._scale[0]) if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        if not new_factor > 1:
            raise ValueError(f"GradScaler: growth_factor={new_factor!r}; expected a number above 1.")
        self._growth_factor = float(new_factor)

    def get_backoff_factor(self) -> float:
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        if not 0 < new_factor < 1:
            raise ValueError(f"GradScaler: backoff_factor={new_factor!r}; expected a number between 0 and 1.")
        self._backoff_factor = float(new_factor)

    def get_growth_interval(self) -> int:
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        if not (isinstance(new_interval, int) and new_interval >= 1):
            raise ValueError(f"GradScaler: growth_interval={new_interval!r}; expected an integer of at least 1.")
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors and the count of good steps, as numbers; empty if disabled. PyTorch's names."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": int(self._tracker[0]),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("GradScaler.load_state_dict: the state is empty; was it saved by a disabled GradScaler?")
        self.set_growth_factor(state_dict["growth_factor"])
        self.set_backoff_factor(state_dict["backoff_factor"])
        self.set_growth_interval(state_dict["growth_interval"])
        self._scale[...] = float(state_dict["scale"])
        self._tracker[...] = int(state_dict["_growth_tracker"])

    # --- inside ---

    def _move_to(self, like: Array) -> None:
        """Have scale and count on the device of an array; done once, since losses come from one device."""
        if device_of(self._scale) != device_of(like):
            self._scale, self._tracker = (to_device(array, device_of(like)) for array in (self._scale, self._tracker))

    def _device_verdict(self, optimizer: optim.Optimizer, like: Array) -> Array:
        kept = self._kept.get(id(optimizer))
        if kept is None or device_of(kept[0]) != device_of(like):
            kept = self._kept[id(optimizer)] = on_device.new_verdict(like), optimizer
        return kept[0]


def _with_gradients(optimizer: optim.Optimizer) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _is_bad(verdict: Any) -> bool:
    """Whether a step is to be left out; of a verdict on a device the host waits for it."""
    return verdict if isinstance(verdict, bool) else bool(verdict[0])
