"""Matrix products on the GPU: cuBLAS's, through the array library."""


def matmul(a, b):
    """a @ b for arrays of one device."""
    return a @ b
