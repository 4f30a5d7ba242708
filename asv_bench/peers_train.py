"""One step of training on a batch of 64 images of 28 x 28: forward, loss, backward, SGD with momentum 0.9. The peer
starts from the same weights; the losses of the first 50 steps agree to 1e-4. "Four convolutions" are of 3x3 with 32,
32, 64 and 64 channels.
"""

import itertools
import resource

import networks
import torch
from suites import Case

from convgrad import functional, optimizers
from convgrad._native import memory

RATE, MOMENTUM = 0.002, 0.9
NETWORKS = {"LeNet-5": networks.lenet, "four convolutions": networks.four_convolutions}
_counts = []


class Ours:
    """Training of a convgrad network: call it for one step; returns the loss."""

    def __init__(self, model, batches):
        self.model, self.batches = model, itertools.cycle(batches)
        self.parameters = model.parameters()
        self.optimizer = optimizers.SGD(RATE, momentum=MOMENTUM)

    def __call__(self):
        x, labels = next(self.batches)
        loss, grad = functional.softmax_cross_entropy(self.model.forward(x), labels)
        self.model.backward(grad, input_grad=False)
        self.optimizer.step(self.parameters)
        return loss


class Theirs:
    """The same in PyTorch."""

    def __init__(self, model, batches):
        self.model = networks.in_torch(model)
        self.batches = itertools.cycle([(torch.from_numpy(x), torch.from_numpy(labels)) for x, labels in batches])
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)

    def __call__(self):
        x, labels = next(self.batches)
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.model(x), labels)
        loss.backward()
        self.optimizer.step()
        return loss


def cases(n_threads):
    """A step of each network."""
    for name, make in NETWORKS.items():
        data = networks.batches(16)
        model = make()
        theirs, ours = Theirs(model, data), Ours(model, data)

        def check(ours=ours, theirs=theirs):
            for step in range(50):
                mine, peer = ours(), theirs().item()
                if abs(mine - peer) > 1e-4:
                    raise AssertionError(f"step {step}: losses {mine} and {peer}")

        def counted(ours=ours, name=name):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, memory.cache_info()["system_blocks"]
            for _ in range(20):
                ours()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, memory.cache_info()["system_blocks"]
            faults, blocks = (b - a for a, b in zip(before, after, strict=True))
            _counts.append(f"{name}, {n_threads} thr: {faults} page faults and {blocks} blocks from the system")

        yield Case("training step", name, ours, theirs, check)
        counted()


def notes():
    """What 20 steps after the measurement took from the system."""
    return ["In 20 steps after the measurement: " + "; ".join(_counts) + "."]
