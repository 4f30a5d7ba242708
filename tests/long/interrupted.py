"""Interrupt a training run again and again: `python tests/long/interrupted.py --times 50`; see docs/robustness.md.

A network with dropout, batch norm, augmentation, a schedule, Adam and two callbacks is trained on the digits with a
checkpoint after every epoch. A child process does so without interruption; another is sent SIGINT or SIGKILL, one or
the other at random, at a random moment, and started anew, until it has been struck so many times and is done. The exit
status is 0 where both end with the same weights, optimizer state and history, bit for bit.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINGER = 12  # epochs after which a child that is still to be struck waits for it


def train(checkpoint, result, epochs, lingers):
    """The run itself, in a process of its own; `result` is written only where it comes to its end."""
    import numpy as np

    from convgrad import augmentation, callbacks, checkpoints, datasets, layers, optimizers, schedules, training

    done = []

    def linger(run):
        done.append(run.epoch)
        if lingers and len(done) >= LINGER:
            time.sleep(600)

    images, labels = datasets.load_digits()
    x, y = images[:320], labels[:320]
    rng = np.random.default_rng(0)
    model = layers.Sequential(
        [layers.Conv2D(1, 8, 3, rng=rng), layers.BatchNorm(8), layers.ReLU(), layers.Flatten(),
         layers.Dropout(0.2, rng=1), layers.Dense(288, 10, rng=rng)]
    )  # fmt: skip
    optimizer = optimizers.Adam()
    history = training.fit(
        model, x, y, optimizer=optimizer, epochs=epochs, batch_size=32,
        validation_data=(images[320:400], labels[320:400]),
        augment=augmentation.shift(1), schedule=schedules.cosine(1e-3, epochs), seed=3, resume=checkpoint,
        callbacks=[callbacks.EarlyStopping(patience=epochs), callbacks.Checkpoint(checkpoint), linger],
    )  # fmt: skip
    if history.interrupted:
        return 130
    del history["seconds"]
    state = {f"model.{name}": array for name, array in model.state_dict().items()}
    state |= {f"adam.{name}": array for name, array in optimizer.state_dict(model.parameters()).items()}
    checkpoints.save(state, result, metadata={"history": repr(dict(history))})
    return 0


def heed():
    """Shells start what runs in the background with SIGINT ignored: children shall not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def child(folder, epochs, lingers=False):
    command = [sys.executable, __file__, "--child", folder / "run.safetensors", folder / "result.safetensors"]
    command += ["--epochs", epochs, *(["--lingers"] if lingers else [])]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed)  # fmt: skip


def digest(folder):
    return hashlib.sha256((folder / "result.safetensors").read_bytes()).hexdigest()


def strike(process, draw, which):
    """Send the signal at a random moment: after some lines, that is epochs, and a little more. True where it struck."""
    for _ in range(draw.choice((0, 0, 1, 2, 4, 8))):
        if not process.stdout.readline():
            break
    time.sleep(draw.uniform(0, 0.02) if draw.random() < 0.8 else draw.uniform(0, 0.6))
    if process.poll() is not None:
        return False
    process.send_signal(which)
    process.communicate(timeout=300)
    return process.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=500, help="of one run; runs follow until all is struck")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--lingers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return train(*options.child, options.epochs, options.lingers)
    draw, struck, runs, kinds = random.Random(options.seed), 0, 0, {signal.SIGINT: 0, signal.SIGKILL: 0}
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        process = child(whole, options.epochs)
        output, errors = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"the uninterrupted run failed:\n{output}{errors}")
        expected = digest(whole)
        while struck < options.times:
            folder = Path(name) / f"run{runs}"
            folder.mkdir()
            runs += 1
            struck_here = 0
            while not (folder / "result.safetensors").exists():
                process = child(folder, options.epochs, struck < options.times)
                which = draw.choice(list(kinds))
                if struck < options.times and strike(process, draw, which):
                    struck, struck_here = struck + 1, struck_here + 1
                    kinds[which] += 1
                    continue
                output, errors = process.communicate(timeout=600)
                if process.returncode:
                    raise SystemExit(f"after {struck} interruptions the run failed:\n{output}{errors}")
            if digest(folder) != expected:
                raise SystemExit(f"run {runs}, struck {struck_here} times, ended with other weights, state or history")
            left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
            print(
                f"run {runs}: struck {struck_here} times, the same to the last bit; {len(left)} files left aside",
                flush=True,
            )
    print(f"{struck} interruptions ({kinds[signal.SIGINT]} SIGINT, {kinds[signal.SIGKILL]} SIGKILL) in {runs} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
