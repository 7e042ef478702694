"""Every differentiable op, one file a family. Each name here is also `minigrad.<name>`.

`METHODS` lists the ops that are methods of Tensor under the same name.
"""

from minigrad.ops.activations import elu, gelu, leaky_relu, relu, silu, softplus
from minigrad.ops.arithmetic import (
    abs,
    add,
    all,
    any,
    astype,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    clip,
    clone,
    divide,
    equal,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    logical_not,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    reciprocal,
    remainder,
    round,
    sign,
    square,
    subtract,
    to_device,
    trunc,
    where,
)
from minigrad.ops.convolution import conv1d, conv2d, conv_transpose2d
from minigrad.ops.elementary import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    erf,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from minigrad.ops.indexing import (
    argsort,
    embedding,
    gather,
    getitem,
    index_add,
    index_update,
    one_hot,
    scatter_add,
    sort,
    take,
    take_along_axis,
    topk,
)
from minigrad.ops.normalization import batch_norm, batch_norm_inference
from minigrad.ops.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from minigrad.ops.probabilities import log_softmax, logsumexp, softmax, softmax_cross_entropy
from minigrad.ops.products import dot, einsum, linear, matmul, outer, tensordot
from minigrad.ops.reductions import (
    amax,
    amin,
    argmax,
    argmin,
    cumprod,
    cumsum,
    max,
    mean,
    min,
    norm,
    prod,
    std,
    sum,
    var,
)
from minigrad.ops.shapes import (
    broadcast_to,
    cat,
    concatenate,
    diagonal,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    pad,
    permute,
    ravel,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    trace,
    transpose,
    tril,
    triu,
)

METHODS: list[str] = """
    abs add all amax amin any argmax argmin argsort ceil clip clone cos cumprod cumsum diagonal divide dot exp
    expand_dims expm1 flatten flip floor gather log log10 log1p log2 log_softmax logsumexp matmul max mean min
    moveaxis multiply negative norm power prod ravel reciprocal relu repeat roll round rsqrt scatter_add sigmoid
    sign sin softmax sort split sqrt square squeeze std subtract sum swapaxes take tan tanh tile topk trace tril
    triu trunc var
""".split()
