"""The cost of a call: small arrays through the public functions, every check on, a fresh result each time."""

from functools import partial

import numpy as np
import torch
from suites import Case, agree

import convgrad


def cases(n_threads):
    """Calls whose arithmetic hardly counts."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    x, image, filters, bias = draw(10), draw(1, 1, 28, 28), draw(6, 1, 5, 5), draw(6)
    row, weight, vector, logits = draw(1, 84), draw(10, 84), draw(10), draw(1, 10)
    label = np.array([3])
    pairs = [
        ("relu, 10", convgrad.relu, torch.relu, (x,)),
        ("relu_backward, 10", convgrad.relu_backward, lambda g, y: torch.ops.aten.threshold_backward(g, y, 0), (x, x)),
        ("conv2d, 1 x 28 x 28, 6 of 5 x 5", convgrad.conv2d, torch.conv2d, (image, filters)),
        ("conv2d with bias", convgrad.conv2d, torch.conv2d, (image, filters, bias)),
        (
            "max_pool2d, 28 x 28",
            partial(convgrad.max_pool2d, kernel_size=2),
            partial(torch.max_pool2d, kernel_size=2),
            (image,),
        ),
        ("linear, 1 x 84 to 10", convgrad.linear, torch.nn.functional.linear, (row, weight, vector)),
        ("softmax, 1 x 10", convgrad.softmax, partial(torch.softmax, dim=1), (logits,)),
    ]
    for name, ours, theirs, arrays in pairs:
        tensors = [torch.from_numpy(array) for array in arrays]
        mine, peer = partial(ours, *arrays), partial(theirs, *tensors)
        yield Case("calls", name, mine, peer, lambda mine=mine, peer=peer: agree(mine(), peer()))
    peer = partial(torch.nn.functional.cross_entropy, torch.from_numpy(logits), torch.from_numpy(label))
    mine = partial(convgrad.softmax_cross_entropy, logits, label)
    yield Case("calls", "softmax_cross_entropy, 1 x 10", mine, peer, lambda: agree(mine()[0], peer()))
