"""What PyTorch keeps in `torch.nn.utils` of gradients: the functions themselves stand in `minigrad.optim.gradients`."""

from minigrad import optim

clip_grad_norm_ = optim.clip_grad_norm_
clip_grad_value_ = optim.clip_grad_value_
clip_grads_with_norm_ = optim.clip_grads_with_norm_
get_total_norm = optim.get_total_norm
