"""The CPU kernels against PyTorch's, in one process, runs taken in turn.

    python benchmarks/kernels.py [--rounds 7] [--threads 2] [--batch 64] [--only batch_norm]

Prints the median milliseconds of each and their ratio (ours / PyTorch's; below 1 we are faster). Arrays are float32, as
a channels-last network would hand them over; PyTorch gets the same memory layout, or, with --torch-layout nchw, its
usual one. The last line names the processor target that NumPy's BLAS was loaded for: OpenBLAS picks it once, and where
it does not know a new processor it may miss the wide instructions (OPENBLAS_CORETYPE=SkylakeX asks for AVX-512).
"""

import argparse
import statistics
import time

import numpy as np
import threadpoolctl
import torch

from minigrad.backend import cpu, threads

CONVOLUTIONS = [  # channels in and out, kernel, stride, padding, image, groups
    (3, 32, 3, 1, 1, 32, 1),
    (32, 32, 3, 1, 1, 32, 1),
    (32, 64, 3, 1, 1, 16, 1),
    (64, 64, 3, 1, 1, 16, 1),
    (64, 128, 3, 1, 1, 8, 1),
    (1, 6, 5, 1, 2, 28, 1),
    (6, 16, 5, 1, 0, 14, 1),
    (64, 64, 1, 1, 0, 16, 1),
    (32, 64, 3, 2, 1, 32, 1),
    (64, 64, 3, 1, 1, 16, 4),
    (64, 64, 3, 1, 1, 16, 64),
    (64, 64, 3, 2, 1, 16, 64),
]
POOLS = [(32, 32), (64, 16), (128, 8), (6, 28), (16, 10)]  # channels, image
NORMS = [(32, 32), (64, 16), (128, 8)]
PAUSE = 0.01  # seconds: PyTorch's idle threads spin for some ms after a run, and would take a core from us
aten = torch.ops.aten


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    threads.set_num_threads(options.threads)
    make = Maker(options.batch, options.torch_layout)
    print(f"{'kernel':44}{'ours ms':>9}{'torch ms':>9}{'ratio':>7}")
    rows = [*convolutions(make), *pools(make), *norms(make)]
    interleaved(*rows[0][1:], options.rounds)  # the first half second of two threads is often spent on one core
    for name, ours, theirs in rows:
        if options.only in name:
            mine, peer = interleaved(ours, theirs, options.rounds)
            print(f"{name:44}{mine:9.2f}{peer:9.2f}{mine / peer:7.2f}", flush=True)
    print("BLAS:", [(info["internal_api"], info.get("architecture")) for info in threadpoolctl.threadpool_info()])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--torch-layout", choices=["nhwc", "nchw"], default="nhwc")
    return parser.parse_args()


class Maker:
    """Makes the same random array for both sides: ours channels-last, PyTorch's as asked."""

    def __init__(self, batch: int, torch_layout: str):
        self.batch = batch
        self.format = torch.channels_last if torch_layout == "nhwc" else torch.contiguous_format
        self.random = np.random.default_rng(0)

    def images(self, channels: int, size: int):
        array = self.random.standard_normal((self.batch, size, size, channels), dtype=np.float32).transpose(0, 3, 1, 2)
        return array, torch.from_numpy(array).clone(memory_format=torch.contiguous_format).to(memory_format=self.format)

    def weights(self, *shape: int):
        array = self.random.standard_normal(shape, dtype=np.float32)
        return array, torch.from_numpy(array)


def interleaved(ours, theirs, rounds: int) -> tuple[float, float]:
    """Median milliseconds of each. A round is a pause, one run to warm up and three that count; the two take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for function, record in zip((ours, theirs), times, strict=True):
            time.sleep(PAUSE)
            function()
            for _ in range(3 if round_ else 0):
                start = time.perf_counter()
                function()
                record.append(time.perf_counter() - start)
    return statistics.median(times[0]) * 1e3, statistics.median(times[1]) * 1e3


def convolutions(make: Maker):
    for channels, outputs, k, s, p, size, groups in CONVOLUTIONS:
        x, tx = make.images(channels, size)
        w, tw = make.weights(outputs, channels // groups, k, k)
        b, tb = make.weights(outputs)
        g, tg = make.images(outputs, (size + 2 * p - k) // s + 1)
        ours = ((s, s), (p, p), (1, 1), groups)
        theirs = ([s, s], [p, p], [1, 1], False, [0, 0], groups)
        first = channels in (1, 3)  # the first layer's images need no gradient

        def forward(tx=tx, tw=tw, tb=tb, theirs=theirs):
            aten.convolution(tx, tw, tb, *theirs)

        def backward(x=x, w=w, g=g, ours=ours, first=first):
            if not first:
                cpu.conv2d_input_grad(g, w, x.shape, *ours)
            cpu.conv2d_weight_grad(x, g, w.shape, *ours)
            cpu.channel_sum(g)

        def torch_backward(tx=tx, tw=tw, tg=tg, theirs=theirs, first=first):
            aten.convolution_backward(tg, tx, tw, [len(tw)], *theirs, [not first, True, True])

        name = f"conv {channels}->{outputs} {k}x{k} s{s} p{p} @{size}" + (f" groups {groups}" if groups > 1 else "")
        yield f"{name} forward", lambda x=x, w=w, b=b, ours=ours: cpu.conv2d(x, w, b, *ours), forward
        yield f"{name} backward", backward, torch_backward


def pools(make: Maker):
    two, none = (2, 2), (0, 0)
    for channels, size in POOLS:
        x, tx = make.images(channels, size)
        g, tg = make.images(channels, size // 2)
        _, index = cpu.max_pool2d(x, two, two, none)
        _, tindex = aten.max_pool2d_with_indices(tx, two, two)

        def forward(tx=tx):
            aten.max_pool2d_with_indices(tx, two, two)

        def backward(tx=tx, tg=tg, tindex=tindex):
            aten.max_pool2d_with_indices_backward(tg, tx, two, two, none, (1, 1), False, tindex)

        name = f"max_pool2d 2x2 {channels} @{size}"
        yield f"{name} forward", lambda x=x: cpu.max_pool2d(x, two, two, none), forward
        yield (
            f"{name} backward",
            lambda x=x, g=g, index=index: cpu.max_pool2d_scatter(g, index, x.shape, two, two, none),
            backward,
        )


def norms(make: Maker):
    for channels, size in NORMS:
        x, tx = make.images(channels, size)
        g, tg = make.images(channels, size)
        (w, tw), (b, tb) = make.weights(channels), make.weights(channels)
        _, mean, _, inv_std = cpu.batch_norm(x, w, b, 1e-5)
        running = torch.zeros(channels), torch.ones(channels)
        _, tmean, tinv = aten.native_batch_norm(tx, tw, tb, *running, True, 0.1, 1e-5)

        def forward(tx=tx, tw=tw, tb=tb, running=running):
            aten.native_batch_norm(tx, tw, tb, *running, True, 0.1, 1e-5)

        def backward(tx=tx, tg=tg, tw=tw, running=running, tmean=tmean, tinv=tinv):
            aten.native_batch_norm_backward(tg, tx, tw, *running, tmean, tinv, True, 1e-5, [True, True, True])

        name = f"batch_norm {channels} @{size}"
        yield f"{name} forward", lambda x=x, w=w, b=b: cpu.batch_norm(x, w, b, 1e-5), forward
        yield (
            f"{name} backward",
            lambda x=x, g=g, w=w, m=mean, i=inv_std: cpu.batch_norm_backward(g, x, w, m, i),
            backward,
        )


if __name__ == "__main__":
    main()
