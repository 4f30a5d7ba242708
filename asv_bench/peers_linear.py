"""The fully connected layer with its bias, and its gradients in one call, against `torch.nn.functional.linear` and the
two matrix products and the sum of its backward pass, written out. Fresh results on both sides.
"""

import numpy as np
import torch
from suites import Case, agree

import convgrad

BATCHES = (1, 4, 16, 64, 256)
FEATURES = (
    (10, 10),
    (84, 10),
    (400, 120),
    (64, 64),
    (256, 256),
    (784, 512),
    (4096, 10),
    (10, 4096),
    (1024, 1024),
    (4096, 4096),
)


def notes():
    """The BLAS that NumPy and the one that PyTorch runs."""
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    blas = "; ".join(f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}" for pool in pools)
    return [
        f"BLAS of NumPy: {blas or 'unknown'}; of PyTorch: {'MKL' if torch.backends.mkl.is_available() else 'other'}."
    ]


def cases(n_threads):
    """Every batch with every pair of features."""
    rng = np.random.default_rng(0)
    for n_in, n_out in FEATURES:
        weight = rng.standard_normal((n_out, n_in), dtype=np.float32)
        bias = rng.standard_normal(n_out, dtype=np.float32)
        for n in BATCHES:
            x = rng.standard_normal((n, n_in), dtype=np.float32)
            grad = rng.standard_normal((n, n_out), dtype=np.float32)
            yield from _pair(f"{n}, {n_in} to {n_out}", x, weight, bias, grad)


def _pair(name, x, weight, bias, grad):
    tx, tw, tb, tg = map(torch.from_numpy, (x, weight, bias, grad))

    def forward():
        return convgrad.linear(x, weight, bias)

    def peer_forward():
        return torch.nn.functional.linear(tx, tw, tb)

    def backward():
        return convgrad.linear_backward(grad, x, weight)

    def peer_backward():
        return tg @ tw, tg.t() @ tx, tg.sum(0)

    def check():
        for mine, other in zip(backward(), peer_backward(), strict=True):
            agree(mine, other)

    yield Case("forward", name, forward, peer_forward, lambda: agree(forward(), peer_forward()))
    yield Case("backward", name, backward, peer_backward, check)
