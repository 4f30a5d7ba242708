"""Optimizers: one step on the parameters of LeNet-5 (10 arrays, 61,706 numbers) and of VGG-16 (32 arrays, 138 million),
against PyTorch's default eager ones (no `fused=True`, no `foreach=True`, as `torch.optim` chooses on a CPU).
"""

import itertools

import numpy as np
import torch
from suites import Case, agree

from convgrad import optimizers
from convgrad.layers import Parameter

LENET = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]
VGG_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG = [
    *(s for c, k in itertools.pairwise(VGG_CHANNELS) for s in ((k, c, 3, 3), (k,))),
    *((4096, 25088), (4096,), (4096, 4096), (4096,), (1000, 4096), (1000,)),
]
RULES = {
    "SGD": (optimizers.SGD, {}, torch.optim.SGD),
    "momentum": (optimizers.SGD, {"momentum": 0.9}, torch.optim.SGD),
    "Nesterov": (optimizers.SGD, {"momentum": 0.9, "nesterov": True}, torch.optim.SGD),
    "momentum, weight decay": (optimizers.SGD, {"momentum": 0.9, "weight_decay": 1e-4}, torch.optim.SGD),
    "RMSprop": (optimizers.RMSprop, {}, torch.optim.RMSprop),
    "Adam": (optimizers.Adam, {}, torch.optim.Adam),
    "AdamW": (optimizers.AdamW, {}, torch.optim.AdamW),
}
RATE = 1e-4


def cases(n_threads):
    """Every rule on both sets."""
    for size, shapes in (("LeNet", LENET), ("VGG-16", VGG)):
        rng = np.random.default_rng(0)
        data = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        grads = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        peers = [torch.from_numpy(array.copy()) for array in data]
        own = [Parameter(array) for array in data]
        for parameter, peer, grad in zip(own, peers, grads, strict=True):
            parameter.grad, peer.grad = grad, torch.from_numpy(grad)
        for name, (ours, options, theirs) in RULES.items():
            optimizer, other = ours(RATE, **options), theirs(peers, lr=RATE, **options)

            def step(optimizer=optimizer, own=own):
                optimizer.step(own)

            def check(step=step, other=other, own=own, peers=peers):
                for parameter, peer in zip(own, peers, strict=True):
                    peer.copy_(torch.from_numpy(parameter.data))
                for _ in range(3):
                    step()
                    other.step()
                for parameter, peer in zip(own, peers, strict=True):
                    agree(parameter.data, peer, 1e-5)

            yield Case(name, size, step, other.step, check)
        if size == "LeNet":
            yield from clipping(own, peers)


def clipping(own, peers):
    """Clipping fused into the step against PyTorch's function and step."""
    optimizer, other = optimizers.SGD(RATE, clip_norm=1.0), torch.optim.SGD(peers, lr=RATE)

    def theirs():
        torch.nn.utils.clip_grad_norm_(peers, 1.0)
        other.step()

    yield Case("SGD, clipped by norm", "LeNet", lambda: optimizer.step(own), theirs)
