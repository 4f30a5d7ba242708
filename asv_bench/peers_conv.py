"""Convolution against PyTorch, in its plain layout and in channels_last.

The suites `conv`, `inference` and `conv64` of `peers.py`; `inference` keeps the weights packed between calls, as
`prepack_conv2d` and layers in `eval()` do, and `conv64` computes in float64 what takes direct convolution there.
"""

from functools import partial

import cases
import numpy as np
import torch
from measure import geometric_mean
from report import Suite

import convgrad


def conv_calls(case, last, dtype=np.float32):
    """{pass: (ours, PyTorch, PyTorch channels_last)} on seeded data; without `last` only the first two."""
    rng = np.random.default_rng(0)
    x, weight, grad = (
        rng.standard_normal(shape, dtype=dtype) for shape in (case.x_shape, case.weight_shape, case.output_shape)
    )
    options = {"stride": case.stride, "padding": case.padding, "groups": case.groups}
    if case.transposed:
        forward = lambda: convgrad.conv_transpose2d(x, weight, **options)
        by_x, by_weight = (
            lambda: convgrad.conv_transpose2d_backward(grad, x, weight, weight_grad=False, bias=False, **options)[0],
            lambda: convgrad.conv_transpose2d_backward(grad, x, weight, input_grad=False, bias=False, **options)[1],
        )
    else:
        forward = lambda: convgrad.conv2d(x, weight, **options)
        by_x = lambda: convgrad.conv2d_grad_input(grad, weight, x.shape, **options)
        by_weight = lambda: convgrad.conv2d_grad_weight(grad, x, case.kernel, **options)
    calls = {"forward": [forward], "grad_input": [by_x], "grad_weight": [by_weight]}
    for layout in (torch.contiguous_format, torch.channels_last)[: 1 + last]:
        tx, tw, tg = (torch.from_numpy(a).to(memory_format=layout) for a in (x, weight, grad))

        def peer(mask, tx=tx, tw=tw, tg=tg):
            return torch.ops.aten.convolution_backward(
                tg, tx, tw, None, case.stride, case.padding, (1, 1), case.transposed, (0, 0), case.groups, mask
            )

        calls["forward"].append(
            lambda tx=tx, tw=tw: torch.ops.aten.convolution(
                tx, tw, None, case.stride, case.padding, (1, 1), case.transposed, (0, 0), case.groups
            )
        )
        calls["grad_input"].append(lambda peer=peer: peer((True, False, False))[0])
        calls["grad_weight"].append(lambda peer=peer: peer((False, True, False))[1])
    return calls


def run_packed(options):
    """(case, family, pass, GFLOP, calls) of the cases that are no transposed ones, weights packed beforehand."""
    for family in cases.FAMILIES.values():
        for case in family:
            if case.transposed or options.only not in case.name:
                continue
            rng = np.random.default_rng(0)
            x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in (case.x_shape, case.weight_shape))
            packed = convgrad.prepack_conv2d(
                weight, stride=case.stride, padding=case.padding, groups=case.groups, input_shape=case.x_shape
            )
            calls = [lambda packed=packed, x=x: packed(x), *conv_calls(case, last=not options.no_second)["forward"][1:]]
            check(case, "inference", *calls[:2])
            with torch.inference_mode():
                yield case.name, case.family, "forward", case.flops / 1e9, calls


def check(case, name, ours, theirs):
    """Raise where the two disagree by more than sums of this length explain."""
    mine, peer = np.asarray(ours()), theirs().numpy()
    error = np.abs(mine - peer).max() / np.abs(peer).max()
    if not error < (1e-4 if mine.dtype == np.float32 else 1e-12):
        raise AssertionError(f"{case.name} {name}: the two differ by {error:.1e} of the largest value")


def run(options, families=tuple(cases.FAMILIES), dtype=np.float32):
    """(case, family, pass, GFLOP, calls) of every case chosen."""
    for family in families:
        for case in cases.FAMILIES[family]:
            if options.only not in case.name:
                continue
            calls = conv_calls(case, last=not options.no_second and dtype == np.float32, dtype=dtype)
            for name in options.passes:
                check(case, name, *calls[name][:2])
                yield case.name, case.family, name, case.flops / 1e9, calls[name]


def scaling(rows):
    """Time with one thread / time with two, compute-bound cases above 50 MFLOP."""
    times = {(row["case"], row["pass"], row["threads"]): row["seconds"][0] for row in rows if row["amount"] > 0.05}
    ratios = [
        seconds / times[case, name, 2]
        for (case, name, n), seconds in times.items()
        if n == 1 and (case, name, 2) in times
    ]
    if not ratios:
        return []
    return [f"Two threads against one, cases above 50 MFLOP: geometric mean {geometric_mean(ratios):.2f}x.", ""]


SUITE = Suite(
    name="conv",
    run=run,
    passes=("forward", "grad_input", "grad_weight"),
    columns=("PyTorch", "PyTorch channels_last"),
    unit="GFLOP/s",
    data="float32 NCHW",
    apart=cases.APART,
    notes=scaling,
)

INFERENCE = Suite(
    name="inference",
    run=run_packed,
    passes=("forward",),
    columns=SUITE.columns,
    unit=SUITE.unit,
    data=SUITE.data,
    apart=SUITE.apart,
)

FLOAT64 = Suite(
    name="conv64",
    run=partial(run, families=("direct", "inception", "dcgan", "grouped", "batch 1"), dtype=np.float64),
    passes=SUITE.passes,
    columns=SUITE.columns[:1],
    unit=SUITE.unit,
    data="float64 NCHW",
    summarised=1,
)
