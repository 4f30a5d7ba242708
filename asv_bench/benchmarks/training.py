"""A step of training: forward, loss, backward and optimizer on a batch of 64 pictures of 28 x 28."""

import itertools

from .common import N_THREADS, _Compared, convgrad, some

try:
    import networks
except ImportError:  # a commit without layers
    networks = None


class TrainingStep(_Compared):
    """A step on the native kernels, and on the twin. Both start from the same weights; their losses are compared."""

    needs = ("softmax_cross_entropy", "max_pool2d")
    params = [some(["lenet", "four_convolutions"]), ["float32"], N_THREADS, some(["SGD", "Adam"])]
    param_names = ["layer", "dtype", "n_threads", "optimizer"]

    def setup(self, *params):
        if networks is None:
            raise NotImplementedError("this commit has no layers")
        super().setup(*params)

    def operation(self, module, layer, dtype, optimizer):
        # A learning rate so small that thousands of steps leave the two comparable.
        model, step = getattr(networks, layer)(), getattr(convgrad.optimizers, optimizer)(1e-7)
        parameters, batches = model.parameters(), itertools.cycle(networks.batches(4))

        def call():
            with convgrad.backend("native" if module is convgrad else "numpy"):
                x, labels = next(batches)
                loss, grad = convgrad.softmax_cross_entropy(model.forward(x), labels)
                model.backward(grad)
                step.step(parameters)
                return loss

        return call
