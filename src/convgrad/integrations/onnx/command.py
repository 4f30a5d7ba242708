"""The command ``python -m convgrad run MODEL.onnx``: outputs, time by node, largest entries."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from onnx import TensorProto, numpy_helper

from ...threads import threads
from . import PreparedModel, prepare
from .graph import ModelError, Port, Value, check_size


def read_input(text: str, port: Port) -> Value:
    """An array from FILE.npy or FILE.pb (a TensorProto), or made up: "random" in [0, 1) or "zeros"."""
    if text in ("random", "zeros"):
        shape = port.sizes()
        check_size(f"run: input {port.name!r}", shape, port.dtype)
        values = np.random.default_rng(0).random(shape) if text == "random" else np.zeros(shape)
        return values.astype(port.dtype)
    path = Path(text)
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".pb":
        try:
            return numpy_helper.to_array(TensorProto.FromString(path.read_bytes()))
        except Exception as error:  # protobuf's own error is no ValueError
            raise ModelError(f"run: {text} holds no tensor: {error}") from None
    raise ModelError(f"run: {text!r} is no input; pass FILE.npy, FILE.pb, 'random' or 'zeros', or NAME=one of these")


def read_inputs(texts: list[str], model: PreparedModel) -> dict[str, Value]:
    """Arrays for the model's inputs from [NAME=]SOURCE texts; those without a name are taken in order."""
    ports = {port.name: port for port in model.ports}
    named = dict(text.split("=", 1) for text in texts if text.split("=", 1)[0] in ports)
    unnamed = [text for text in texts if text.split("=", 1)[0] not in ports]
    free = [name for name in ports if name not in named]
    if len(unnamed) != len(free) and unnamed != []:
        raise ModelError(f"run: {len(texts)} inputs were given, the model has {list(ports)}")
    named.update(zip(free, unnamed or ["random"] * len(free), strict=True))
    return {name: read_input(named[name], port) for name, port in ports.items()}


def run(path: str, inputs: list[str], *, n_threads: int, top: int, repeat: int, output: str | None) -> int:
    """Run a model file and print what it gives and where the time goes; return the exit code."""
    with threads(n_threads):
        start = time.perf_counter()
        model = prepare(path)
        feeds = read_inputs(inputs, model)
        print(f"{path}: prepared in {time.perf_counter() - start:.2f} s")
        for name, value in feeds.items():
            print(f"input {name!r}: {value.dtype} {value.shape}")
        outputs = model.run(feeds)
        seconds, rows = [], []
        for _ in range(repeat):
            start = time.perf_counter()
            model.run(feeds)
            seconds.append(time.perf_counter() - start)
            rows.append(model.profile(feeds)[1])
    for name, value in zip(model.output_names, outputs, strict=True):
        _describe(name, value, top)
        if output is not None:
            folder = Path(output)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{''.join(c if c.isalnum() else '_' for c in name)}.npy", value)
    total = sum(second for _, _, second in rows[0])
    print(
        f"\n{len(rows[0])} steps, {n_threads} threads; median of {repeat} runs {1e3 * float(np.median(seconds)):.2f} ms"
    )
    print(f"{'ms':>9} {'share':>6}  node")
    medians = [float(np.median([run[i][2] for run in rows])) for i in range(len(rows[0]))]
    total = sum(medians) or 1.0
    for (name, op, _), second in zip(rows[0], medians, strict=True):
        print(f"{1e3 * second:9.3f} {second / total:6.1%}  {op} {name}")
    return 0


def _describe(name: str, value: Value, top: int) -> None:
    print(f"\noutput {name!r}: {value.dtype} {value.shape}")
    if value.size <= 16 or value.dtype.kind not in "fiu":
        print(value if value.size <= 1000 else f"{value.ravel()[:16]} ...")
        return
    print(f"smallest {value.min():.6g}, largest {value.max():.6g}, mean {value.mean():.6g}")
    rows = value.reshape(len(value), -1) if value.ndim > 1 else value.reshape(1, -1)
    for i, row in enumerate(rows[:8]):
        best = np.argsort(-row, kind="stable")[:top]
        print(f"sample {i}, top {len(best)}: " + ", ".join(f"{k}: {row[k]:.6g}" for k in best))
