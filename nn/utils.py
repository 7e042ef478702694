"""The functions on gradients that PyTorch has in `torch.nn.utils`; they are those of `minigrad.optim`."""

from minigrad import optim

clip_grad_norm_ = optim.clip_grad_norm_
clip_grad_value_ = optim.clip_grad_value_
clip_grads_with_norm_ = optim.clip_grads_with_norm_
get_total_norm = optim.get_total_norm

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def __dir__() -> list[str]:
    return sorted(__all__)
