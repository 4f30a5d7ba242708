"""Activations against PyTorch, and against a plain copy with the same number of streams: `peers.py elementwise`.

Passes: the value; the derivative pass (grad_output times a' from the output or input); and the derivative pass with the
bias gradient in one sweep, for which PyTorch takes a derivative pass and a sum. The second column is the time of a copy
(value) or of c = a + b (the others) between fixed arrays, by PyTorch's threads, over the time of ours: the share of the
memory bandwidth that was to be had.
"""

import numpy as np
import torch
from measure import geometric_mean
from report import Suite

import convgrad

ops = torch.ops.aten
SLOPE, ALPHA, SELU_ALPHA, SELU_LAMBDA = 0.01, 1.0, 1.6732632423543772, 1.0507009873554805
# Shapes of 1e4, 1e6 and 1e7 numbers, channels on axis 1.
SHAPES = {"1e4": (25, 16, 5, 5), "1e6": (50, 32, 25, 25), "1e7": (50, 64, 25, 125)}

# PyTorch's value of x, and its derivative pass of grad and the output y or the input x.
PEERS = {
    "sigmoid": (torch.sigmoid, lambda g, x, y: ops.sigmoid_backward(g, y)),
    "tanh": (torch.tanh, lambda g, x, y: ops.tanh_backward(g, y)),
    "relu": (torch.relu, lambda g, x, y: ops.threshold_backward(g, y, 0)),
    "leaky_relu": (
        lambda x: ops.leaky_relu(x, SLOPE),
        lambda g, x, y: ops.leaky_relu_backward(g, y, SLOPE, True),
    ),
    "elu": (lambda x: ops.elu(x, ALPHA), lambda g, x, y: ops.elu_backward(g, ALPHA, 1, 1, True, y)),
    "selu": (torch.selu, lambda g, x, y: ops.elu_backward(g, SELU_ALPHA, SELU_LAMBDA, 1, True, y)),
    "softplus": (lambda x: ops.softplus(x), lambda g, x, y: ops.softplus_backward(g, x, 1, 20)),
    "silu": (lambda x: ops.silu(x), lambda g, x, y: ops.silu_backward(g, x)),
    "gelu": (lambda x: ops.gelu(x), lambda g, x, y: ops.gelu_backward(g, x)),
}
FROM_INPUT = ("softplus", "silu", "gelu")


def calls_of(name, shape):
    """{pass: (streams, [ours, PyTorch, copy])} on seeded data."""
    rng = np.random.default_rng(0)
    x, grad = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    tx, tg = torch.from_numpy(x), torch.from_numpy(grad)
    value, derivative = PEERS[name]
    ty = value(tx)
    operand = x if name in FROM_INPUT else ty.numpy()
    room = torch.empty_like(tx)
    ours, ours_backward = getattr(convgrad, name), getattr(convgrad, f"{name}_backward")
    add = lambda: torch.add(tg, tx, out=room)

    def peer_bias():
        gradient = derivative(tg, tx, ty)
        return gradient, gradient.sum((0, 2, 3))

    return {
        "value": (2, [lambda: ours(x), lambda: value(tx), lambda: room.copy_(tx)]),
        "derivative": (3, [lambda: ours_backward(grad, operand), lambda: derivative(tg, tx, ty), add]),
        "with bias": (3, [lambda: convgrad.activation_backward_bias(name, grad, operand), peer_bias, add]),
    }


def check(name, ours, theirs):
    """Raise where the two disagree."""
    mine, peer = ours(), theirs()
    for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (mine, peer)), strict=True):
        error = np.abs(a - b.numpy()).max() / b.abs().max().item()
        if not error < 1e-5:
            raise AssertionError(f"{name}: the two differ by {error:.1e} of the largest value")


def run(options):
    """(case, family, pass, gigabytes, calls) of every case chosen."""
    for name in PEERS:
        for size, shape in SHAPES.items():
            case = f"{name} {size}"
            if options.only not in case:
                continue
            calls = calls_of(name, shape)
            for kind in options.passes:
                streams, functions = calls[kind]
                check(f"{case} {kind}", *functions[:2])
                amount = streams * 4 * np.prod(shape) / 1e9
                yield case, name, kind, amount, functions[: 2 if options.no_second else 3]


def notes(rows):
    """The bandwidth table, and the ratios over PyTorch by size."""
    rows = [row for row in rows if len(row["ratios"]) > 1]
    if not rows:
        return []
    sizes = [size for size in SHAPES if any(row["case"].endswith(size) for row in rows)]
    lines = ["## Share of the bandwidth of a plain copy", ""]
    lines += ["Time of a copy with the same number of streams / time of ours.", ""]
    columns = [(size, n) for size in sizes if size != "1e4" for n in sorted({row["threads"] for row in rows})]
    lines += [f"| activation | pass | {' | '.join(f'{size}, {n} thr' for size, n in columns)} |"]
    lines += ["|---" * (2 + len(columns)) + "|"]
    share = {(row["case"], row["pass"], row["threads"]): row["ratios"][1] for row in rows}
    for name, kind in dict.fromkeys((row["family"], row["pass"]) for row in rows):
        cells = [share.get((f"{name} {size}", kind, n)) for size, n in columns]
        lines.append(f"| {name} | {kind} | {' | '.join('' if c is None else f'{c:.0%}' for c in cells)} |")
    copies = {}
    for row in rows:
        size = row["case"].split()[1]
        copies.setdefault((row["threads"], size, row["pass"] == "value"), []).append(row["amount"] / row["seconds"][2])
    lines += ["", "Bandwidth of the copies, GB/s: "]
    lines[-1] += (
        "; ".join(
            f"{'copy' if value else 'a + b'} {size} {n} thr {np.median(speeds):.0f}"
            for (n, size, value), speeds in sorted(copies.items())
        )
        + "."
    )
    means = {s: geometric_mean([r["ratios"][0] for r in rows if r["case"].endswith(s)]) for s in sizes}
    lines += ["", "Over PyTorch by size: " + ", ".join(f"{s}: {m:.2f}x" for s, m in means.items()) + ".", ""]
    return lines


SUITE = Suite(
    name="elementwise",
    run=run,
    passes=("value", "derivative", "with bias"),
    columns=("PyTorch", "copy"),
    unit="GB/s",
    data="float32",
    notes=notes,
    summarised=1,
)
