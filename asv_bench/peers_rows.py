"""Softmax, log-softmax and the losses, forward and backward in one sample. PyTorch's side is its public functions with
autograd; the family "… (operators)" calls the operators below autograd, which users do not see, directly.
"""

import numpy as np
import torch
from suites import Case, agree

from convgrad import functional

SHAPES = [(64, 10), (256, 1000), (32, 50000)]
OPERATORS = torch.ops.aten


def cases(n_threads):
    """Every function at every shape."""
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape, dtype=np.float32) * 3
        grad = rng.standard_normal(shape, dtype=np.float32)
        labels = rng.integers(0, shape[1], shape[0])
        targets = rng.random(shape, dtype=np.float32)
        name = f"{shape[0]} x {shape[1]}"
        yield from _softmax(name, x, grad)
        yield from _losses(name, x, labels, targets)


def _softmax(name, x, grad):
    tx, tg = torch.from_numpy(x), torch.from_numpy(grad)
    leaf = tx.clone().requires_grad_()
    for function in ("softmax", "log_softmax"):
        forward, backward = getattr(functional, function), getattr(functional, f"{function}_backward")
        peer = getattr(torch, function)
        forward_operator, backward_operator = (
            getattr(OPERATORS, f"_{function}"),
            getattr(OPERATORS, f"_{function}_backward_data"),
        )

        def ours(forward=forward, backward=backward):
            return backward(grad, forward(x))

        def theirs(peer=peer):
            leaf.grad = None
            peer(leaf, 1).backward(tg)
            return leaf.grad

        def operators(forward=forward_operator, backward=backward_operator):
            return backward(tg, forward(tx, 1, False), 1, torch.float32)

        yield Case(function, name, ours, theirs, lambda ours=ours, theirs=theirs: agree(ours(), theirs()))
        yield Case(f"{function} (operators)", name, ours, operators)


def _losses(name, x, labels, targets):
    leaf = torch.from_numpy(x).requires_grad_()
    named = {
        "softmax_cross_entropy": (functional.softmax_cross_entropy, torch.nn.functional.cross_entropy, labels),
        "sigmoid_cross_entropy": (
            functional.sigmoid_cross_entropy,
            torch.nn.functional.binary_cross_entropy_with_logits,
            targets,
        ),
    }
    for family, (loss, peer, target) in named.items():
        ttarget = torch.from_numpy(target)

        def ours(loss=loss, target=target):
            return loss(x, target)

        def theirs(peer=peer, ttarget=ttarget):
            leaf.grad = None
            value = peer(leaf, ttarget)
            value.backward()
            return value, leaf.grad

        def check(ours=ours, theirs=theirs):
            for mine, other in zip(ours(), theirs(), strict=True):
                agree(mine, other)

        yield Case(family, name, ours, theirs, check)
