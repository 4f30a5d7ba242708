"""Share of the arithmetic peak on every instruction set, and float64 against PyTorch: `python asv_bench/isa.py`.

The peak of an instruction set is what a loop of independent multiply-adds (multiplications and additions where it has
no fused ones) reaches on vectors of its own, measured in turn with each layer in the same process, the best of several
rounds on either side: other tenants of the machine can halve either. The loop is compiled here from the vocabulary that
the kernels are written in. Layers run by direct convolution on one thread, in a process for each instruction set
(CONVGRAD_ISA). Float64 is compared call by call with PyTorch's, interleaved.

Writes asv_bench/results/isa.json and .md. Needs a C compiler and, for the float64 table, PyTorch.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import clean_environment, cpu_name, geometric_mean, machine_lock, paired

if __name__ == "__main__":
    clean_environment()

import numpy as np

import convgrad
from convgrad._native import runtime

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
# (batch, channels in, channels out, size, kernel, stride, padding)
LAYERS = [(8, 64, 64, 56, 3, 1, 1), (8, 128, 128, 28, 3, 1, 1), (8, 256, 256, 14, 3, 1, 1), (8, 64, 128, 35, 5, 1, 2)]
ROUNDS = 15

PEAK = """
double peak(ptrdiff_t n, REAL *out) {
    vec sum[SUMS], a = v_load(out), b = v_load(out + LANES);
    for (int i = 0; i < SUMS; i++)
        sum[i] = v_set1((REAL)i);
    for (ptrdiff_t t = 0; t < n; t++)
        UNROLL for (int i = 0; i < SUMS; i++) sum[i] = v_fma(sum[i], a, b);
    for (int i = 0; i < SUMS; i++)
        v_store(out + i * LANES, sum[i]);
    return 2.0 * n * SUMS * LANES;
}
"""


def peak_function(isa, dtype, folder):
    """Compile the loop for `isa` and return a function that measures operations per second."""
    prefix = "f64" if dtype == np.float64 else "f32"
    source = (ROOT / "csrc" / "isa" / f"{prefix}_{isa}.c").read_text(encoding="utf-8")
    sums = 24 if isa in ("avx512", "neon") else 12
    source = source.replace('#include "../bodies.inc.h"', f"#define SUMS {sums}\n{PEAK}").replace('"../', '"')
    path, library = Path(folder) / f"{prefix}_{isa}.c", Path(folder) / f"{prefix}_{isa}.so"
    path.write_text(source, encoding="utf-8")
    options = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, f"-I{ROOT / 'csrc'}", str(path), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).peak
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_ssize_t, ctypes.c_void_p]
    out = np.zeros(1024, dtype)

    def measure(n=300_000):
        start = time.perf_counter()
        operations = function(n, out.ctypes.data)
        return operations / (time.perf_counter() - start)

    return measure


def layer_arrays(layer, dtype):
    batch, channels, out_channels, size, kernel, stride, padding = layer
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, channels, size, size)).astype(dtype)
    weight = rng.standard_normal((out_channels, channels, kernel, kernel)).astype(dtype)
    return x, weight, {"stride": stride, "padding": padding}


def share_of_peak(dtype):
    """[{layer, peak, speed, share}] on the instruction set of this process; operations per second."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_function(runtime.isa(), dtype, folder)
        for layer in LAYERS:
            x, weight, options = layer_arrays(layer, dtype)
            call = lambda x=x, w=weight, o=options: convgrad.conv2d(x, w, algorithm="direct", **o)
            operations = 2.0 * call().size * weight[0].size
            peaks, speeds = [], []
            for _ in range(ROUNDS):
                peaks.append(peak())
                start = time.perf_counter()
                call()
                speeds.append(operations / (time.perf_counter() - start))
            best = max(peaks), max(speeds)
            rows.append({"layer": layer, "peak": best[0], "speed": best[1], "share": best[1] / best[0]})
    return rows


def float64_ratios():
    """[{layer, pass, ratio, lowest}] of PyTorch's time to ours, one thread."""
    import torch

    torch.set_num_threads(1)
    rows = []
    for layer in LAYERS:
        x, weight, options = layer_arrays(layer, np.float64)
        options["algorithm"] = "direct"  # "auto" would take Winograd's
        grad = convgrad.conv2d(x, weight, **options)
        tx, tw, tg = map(torch.from_numpy, (x, weight, grad))
        stride, padding = [options["stride"]] * 2, [options["padding"]] * 2

        def peer(mask, tx=tx, tw=tw, tg=tg, stride=stride, padding=padding):
            return torch.ops.aten.convolution_backward(
                tg, tx, tw, None, stride, padding, [1, 1], False, [0, 0], 1, mask
            )

        calls = {
            "forward": (
                lambda x=x, w=weight, o=options: convgrad.conv2d(x, w, **o),
                lambda tx=tx, tw=tw, s=stride, p=padding: torch.nn.functional.conv2d(tx, tw, stride=s, padding=p),
            ),
            "grad_input": (
                lambda g=grad, w=weight, x=x, o=options: convgrad.conv2d_grad_input(g, w, x.shape, **o),
                lambda peer=peer: peer((True, False, False)),
            ),
            "grad_weight": (
                lambda g=grad, x=x, w=weight, o=options: convgrad.conv2d_grad_weight(g, x, w.shape[2:], **o),
                lambda peer=peer: peer((False, True, False)),
            ),
        }
        for name, (ours, theirs) in calls.items():
            outcome = paired(ours, theirs, rounds=3, min_seconds=0.05)
            rows.append({"layer": layer, "pass": name, "ratio": outcome.ratio, "lowest": outcome.lowest})
    return rows


def label(layer):
    batch, channels, out_channels, size, kernel, stride, padding = layer
    return f"{batch},{channels},{out_channels},{size} {kernel}x{kernel} s{stride} p{padding}"


def lines_of(report):
    """The tables as Markdown."""
    lines = [
        "# Direct convolution on every instruction set, and in float64",
        "",
        f"{report['cpu']}; one thread; best of {ROUNDS} rounds. Reproduce: `python asv_bench/isa.py`.",
        "",
        "| instruction set | dtype | " + " | ".join(label(layer) for layer in LAYERS) + " | best peak |",
        "|---|---|" + "---|" * (len(LAYERS) + 1),
    ]
    for (isa, dtype), rows in ((key.split(), rows) for key, rows in report["shares"].items()):
        cells = " | ".join(f"{row['share']:.0%} ({row['speed'] / 1e9:.0f} GF/s)" for row in rows)
        lines.append(f"| {isa} | {dtype} | {cells} | {max(row['peak'] for row in rows) / 1e9:.0f} GF/s |")
    ratios = report["float64"]
    if ratios:
        lines += [
            "",
            f"float64 against PyTorch {report['torch']}: geometric mean "
            f"**{geometric_mean([row['ratio'] for row in ratios]):.2f}x**, worst "
            f"{min(row['ratio'] for row in ratios):.2f}x.",
            "",
            "| layer | pass | PyTorch | lowest |",
            "|---|---|---|---|",
            *(
                f"| {label(row['layer'])} | {row['pass']} | {row['ratio']:.2f}x | {row['lowest']:.2f}x |"
                for row in ratios
            ),
        ]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--here", metavar="DTYPE", help="only this process's instruction set; prints JSON")
    options = parser.parse_args()
    convgrad.set_num_threads(1)
    if options.here:
        print(json.dumps(share_of_peak(np.dtype(options.here).type)))
        return
    shares = {}
    with machine_lock():
        for isa in (name for name in runtime.isas() if name != "scalar"):
            for dtype in ("float32", "float64"):
                environment = {**os.environ, "CONVGRAD_ISA": isa}
                command = [sys.executable, __file__, "--here", dtype]
                output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                shares[f"{isa} {dtype}"] = json.loads(output)
        try:
            import torch

            version, ratios = torch.__version__, float64_ratios()
        except ImportError:
            version, ratios = None, []
    report = {"cpu": cpu_name(), "shares": shares, "torch": version, "float64": ratios}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "isa.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = "\n".join(lines_of(report)) + "\n"
    (RESULTS / "isa.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
