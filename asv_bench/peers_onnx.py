"""ONNX models against onnxruntime and OpenVINO: `python asv_bench/peers.py onnx`.

The nine light topologies that come with the onnx package (float32, 224 x 224), each written to a file for batches of 1
and 8 with random weights; all libraries load that file and get the same number of threads. Runs alternate, with a pause
before each sample in which the thread pools of the others stop spinning; a ratio is the median over rounds of (peer's
time / ours), so above 1 ours is faster. Peak memory is that of a fresh process that loads the file and runs it three
times, over what the imports took.

Takes about five minutes of a quiet machine. Writes asv_bench/results/peers-onnx.json, .md and, with matplotlib, .png;
with --only or --no-memory it prints and writes nothing, elsewhere with --results.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import clean_environment, describe_host, geometric_mean, machine_lock

if __name__ == "__main__":
    clean_environment()

import dots
import numpy as np
import onnx
from onnx import numpy_helper

RESULTS = Path(__file__).parent / "results"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx"))
PAUSE = 0.03  # seconds


def write_model(name, batch, folder):
    """The path of the model for a batch size, with seeded random weights in place of the constants it comes with."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(0)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    uses = {}
    for node in graph.node:
        for position, value in enumerate(node.input):
            uses.setdefault(value, (node.op_type, position))
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape = tuple(constants.pop(node.input[0]))
            constants[node.output[0]] = random_weights(rng, shape, uses[node.output[0]])
        elif node.op_type == "Reshape" and constants[node.input[1]][0] == 1:
            constants[node.input[1]] = np.r_[batch, constants[node.input[1]][1:]]
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    read = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name in read and value.name not in constants]
    inputs[0].type.tensor_type.shape.dim[0].dim_value = batch
    outputs = [onnx.helper.make_tensor_value_info(value.name, 1, None) for value in graph.output]
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    path = Path(folder) / f"{name}-{batch}.onnx"
    rewritten = onnx.helper.make_graph(nodes, name, inputs, outputs, tensors)
    onnx.save(onnx.helper.make_model(rewritten, opset_imports=model.opset_import, ir_version=8), path)
    return path


def random_weights(rng, shape, use):
    """Weights that keep activations near 1: He's for layers, factors and variances near 1, small shifts."""
    values = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        return values * np.float32((2 / np.prod(shape[1:])) ** 0.5)
    factor = use in (("BatchNormalization", 1), ("BatchNormalization", 4), ("Mul", 1), ("Unsqueeze", 0))
    return 1 + np.clip(values / 10, -0.5, 0.5) if factor else values / 10


def load_ours(path, n_threads):
    import convgrad
    from convgrad.integrations.onnx import prepare

    convgrad.set_num_threads(n_threads)
    model = prepare(path)

    def run(x):
        convgrad.set_num_threads(n_threads)
        return model.run([x])[0]

    return run


def load_onnxruntime(path, n_threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = n_threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def load_openvino(path, n_threads):
    import openvino

    config = {"INFERENCE_NUM_THREADS": n_threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    model = openvino.Core().compile_model(str(path), "CPU", config)
    return lambda x: model([x])[0]


LOADERS = {"convgrad": load_ours, "onnxruntime": load_onnxruntime, "OpenVINO": load_openvino}


def peers():
    """Names of the libraries that are installed, ours first."""
    found = ["convgrad", "onnxruntime"]
    with contextlib.suppress(ImportError):
        import openvino  # noqa: F401

        found.append("OpenVINO")
    return found


def input_for(batch):
    return np.random.default_rng(0).random((batch, 3, 224, 224), dtype=np.float32)


def compare(path, batch, n_threads, rounds, names):
    """{"seconds": {name: median}, "ratios": {name: median of theirs / ours}}, once results agree."""
    x = input_for(batch)
    runs = {name: LOADERS[name](path, n_threads) for name in names}
    expected, slow = None, False  # runs that take long vary less
    for name, run in runs.items():
        run(x)
        start = time.perf_counter()
        result = np.asarray(run(x))
        if expected is None:
            expected, slow = result, time.perf_counter() - start > 0.1
        scale = np.abs(expected).max()
        if not np.abs(result - expected).max() <= 1e-3 * scale:
            raise AssertionError(f"{path.name}: {name} and convgrad differ")
    times = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            time.sleep(PAUSE)
            best = []
            for _ in range(1 if slow else 2):
                start = time.perf_counter()
                runs[name](x)
                best.append(time.perf_counter() - start)
            times[name].append(min(best))
    ours = times[names[0]]
    return {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "ratios": {
            name: statistics.median(b / a for a, b in zip(ours, times[name], strict=True)) for name in names[1:]
        },
    }


def peak_megabytes(name, path, batch):
    """Peak memory of a fresh process over what its imports took."""
    command = [sys.executable, __file__, "--peak", name, str(path), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return float(done.stdout)


def print_peak(name, path, batch):
    for module in {"convgrad": ["convgrad.integrations.onnx"], "onnxruntime": ["onnxruntime"]}.get(name, ["openvino"]):
        __import__(module)
    x = input_for(batch)
    before = peak_kilobytes()
    run = LOADERS[name](path, 1)
    for _ in range(3):
        run(x)
    print((peak_kilobytes() - before) / 1024)


def peak_kilobytes():
    """Peak resident memory of this process; getrusage would start from that of its parent."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def report_lines(report):
    """The report as Markdown."""
    host, rows, names = report["host"], report["rows"], report["names"]
    versions = ", ".join(f"{name} {host[name]}" for name in names[1:])
    lines = [
        f"# onnx: convgrad against {versions}",
        "",
        f"{host['cpu']}; kernels: {host['isa']}; {report['rounds']} rounds interleaved, median of paired ratios (above "
        "1: convgrad is faster). Light topologies of the onnx package, float32.",
        "Reproduce: `python asv_bench/peers.py onnx`.",
        "",
        "| geometric mean | " + " | ".join(f"against {name}" for name in names[1:]) + " |",
        "|---|" + "---|" * (len(names) - 1),
    ]
    groups = {"all": rows}
    for row in rows:
        groups.setdefault(f"batch {row['batch']}, {row['threads']} threads", []).append(row)
    for title, chosen in groups.items():
        means = [geometric_mean([row["ratios"][name] for row in chosen]) for name in names[1:]]
        lines.append(f"| {title} | " + " | ".join(f"{mean:.2f}x" for mean in means) + " |")
    lines += [
        "",
        "| model | batch | threads | ms | " + " | ".join(names[1:]) + " |",
        "|---|---|---|---|" + "---|" * (len(names) - 1),
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['batch']} | {row['threads']} | {1e3 * row['seconds']['convgrad']:.1f} | "
            + " | ".join(f"{row['ratios'][name]:.2f}x" for name in names[1:])
            + " |"
        )
    if report["peaks"]:
        lines += ["", "Peak memory in MB, one thread:", "", "| model | batch | " + " | ".join(names) + " |"]
        lines.append("|---|---|" + "---|" * len(names))
        for row in report["peaks"]:
            lines.append(
                f"| {row['model']} | {row['batch']} | " + " | ".join(f"{row[name]:.0f}" for name in names) + " |"
            )
    return lines


def panels(report):
    """What `dots.draw` takes."""
    host = report["host"]
    return {
        f"time of {name} {host[name]} / time of convgrad": [
            (row["model"], f"batch {row['batch']}, {row['threads']} thr", row["ratios"][name]) for row in report["rows"]
        ]
        for name in report["names"][1:]
    }


def main(arguments=None):
    parser = argparse.ArgumentParser("peers.py onnx", description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only models with TEXT in their name; writes nothing"
    )
    parser.add_argument("--results", type=Path, help="write whatever was run into this folder")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out; writes nothing")
    parser.add_argument("--peak", nargs=3, metavar=("LIBRARY", "FILE", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    if options.peak:
        return print_peak(options.peak[0], options.peak[1], int(options.peak[2]))
    chosen = [name for name in MODELS if options.only in name]
    if not chosen:
        parser.error(f"no model contains {options.only!r}; there are {', '.join(MODELS)}")
    import convgrad

    names = peers()
    host = {**describe_host(), "convgrad": convgrad.__version__}
    host.update({name: __import__(name.lower()).__version__.split("-")[0] for name in names[1:]})
    rows, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        for batch in options.batches:
            for name in chosen:
                path = write_model(name, batch, folder)
                for n_threads in options.threads:
                    with machine_lock():
                        outcome = compare(path, batch, n_threads, options.rounds, names)
                    rows.append({"model": name, "batch": batch, "threads": n_threads, **outcome})
                    print(
                        f"{name:14} batch {batch} {n_threads} thr {1e3 * outcome['seconds']['convgrad']:8.1f} ms  "
                        + "  ".join(f"{peer} {ratio:.2f}x" for peer, ratio in outcome["ratios"].items()),
                        flush=True,
                    )
                if not options.no_memory:
                    peak = {peer: peak_megabytes(peer, path, batch) for peer in names}
                    peaks.append({"model": name, "batch": batch, **peak})
                    print(f"{name:14} batch {batch} peak MB", {k: round(v) for k, v in peak.items()}, flush=True)
    report = {"host": host, "rounds": options.rounds, "names": names, "rows": rows, "peaks": peaks}
    lines = report_lines(report)
    print("\n".join(lines[:14]))
    print(f"{time.perf_counter() - started:.0f} s")
    whole = not options.only and not options.no_memory and options.threads == [1, 2] and options.batches == [1, 8]
    if not whole and options.results is None:
        return None
    results = options.results or RESULTS
    results.mkdir(exist_ok=True)
    (results / "peers-onnx.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (results / "peers-onnx.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with contextlib.suppress(ImportError):
        dots.draw(results / "peers-onnx.png", panels(report))
    return None


if __name__ == "__main__":
    main()
