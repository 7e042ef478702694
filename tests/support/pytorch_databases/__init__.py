"""PyTorch's own test databases, and what is needed to ask minigrad the same questions."""
