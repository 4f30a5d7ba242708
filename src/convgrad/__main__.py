"""Command line: ``python -m convgrad demo``, ``gan``, ``info`` and ``run``."""

import argparse
import sys

DESCRIPTION = "Convolution with gradients for NumPy."
DEMO = """Trains a small convolutional network on 1,797 real handwritten digits that come with the package, one
fifth of them held out. Prints a line per epoch, the held-out accuracy and the time of a training step against the NumPy
backend; writes digits.safetensors (needs the checkpoints extra) and digits.png (needs the plots extra) into the output
directory. Takes well under a minute on two cores."""

GAN = """Trains a generator against a discriminator on the same digits. Prints losses, the Jensen-Shannon estimate and
the diagnostics as it goes, then a diagnosis in words, how many of the ten classes a classifier finds among the
generated digits and their Fréchet distance to real ones; writes digits-gan.safetensors (needs the checkpoints extra)
and digits-gan.png (needs the plots extra). Takes under two minutes on two cores."""

RUN = """Runs an ONNX model with the convgrad backend (needs the onnx extra): prints the outputs with their largest
entries, and the time of every node; nodes that were folded or fused away do not appear."""


def main(arguments=None):
    """Run the command line; return the exit code: 0 done, 1 failed, 2 wrong usage (raised by argparse), 130 Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return {"info": _info, "demo": _demo, "gan": _gan, "run": _run}[options.command](options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"convgrad {options.command}: {error}", file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser("python -m convgrad", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="train a network on real digits and show speed and accuracy", description=DEMO
    )
    _add_options(demo, "convgrad-demo", "three epochs and a short measurement")
    demo.add_argument("--epochs", type=_whole("epochs", 1), metavar="N", help="passes over the data (default 40)")
    gan = commands.add_parser("gan", help="train a GAN on the same digits and diagnose it", description=GAN)
    _add_options(gan, "convgrad-gan", "few iterations")
    gan.add_argument(
        "--iterations", type=_whole("iterations", 1), metavar="N", help="updates of the generator (default 4000)"
    )
    commands.add_parser(
        "info",
        help="print version, instruction set and threads",
        description="Prints version, instruction set, threads and which optional packages are installed.",
    )
    run = commands.add_parser("run", help="run an ONNX model", description=RUN)
    run.add_argument("model", metavar="MODEL.onnx")
    run.add_argument(
        "--input", action="append", default=[], metavar="[NAME=]SOURCE",
        help="FILE.npy, FILE.pb (a TensorProto), random or zeros, once for each input (default: random)",
    )  # fmt: skip
    run.add_argument("--threads", type=_whole("threads", 1), metavar="N", help="threads (default: all)")
    run.add_argument("--top", type=_whole("top", 1), default=5, metavar="K", help="largest entries shown (default 5)")
    run.add_argument("--repeat", type=_whole("repeat", 1), default=5, metavar="N", help="timed runs (default 5)")
    run.add_argument("--output", metavar="DIR", help="write the outputs there as .npy files")
    return parser


def _add_options(parser, output, quick):
    """What both demonstrations take."""
    parser.add_argument(
        "--seed", type=_whole("seed", 0), default=0, metavar="N", help="fixes all random choices (default 0)"
    )
    parser.add_argument("--output", default=output, metavar="DIR", help=f"for the files (default {output})")
    parser.add_argument(
        "--threads", type=_whole("threads", 1), default=1, metavar="N", help="threads (default 1: the images are small)"
    )
    parser.add_argument("--quick", action="store_true", help=f"{quick}, for a first look")


def _whole(name, minimum):
    """An argparse type: an integer of at least `minimum`."""

    def convert(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < minimum:
            raise argparse.ArgumentTypeError(f"{name} must be an integer of at least {minimum}, got {text!r}")
        return value

    return convert


def _demo(options):
    from . import demo

    results = demo.run(
        seed=options.seed,
        epochs=options.epochs,
        output=options.output,
        n_threads=options.threads,
        quick=options.quick,
    )
    return 130 if results["history"].interrupted else 0


def _gan(options):
    from .gan import digits

    results = digits.run(
        seed=options.seed,
        iterations=options.iterations,
        output=options.output,
        n_threads=options.threads,
        quick=options.quick,
    )
    return 130 if results["history"].interrupted else 0


def _run(options):
    from .threads import get_num_threads

    try:
        from .integrations.onnx import ModelError
        from .integrations.onnx.command import run
    except ModuleNotFoundError as error:
        print(f"convgrad run: {error}; pip install convgrad[onnx]", file=sys.stderr)
        return 1
    n_threads = options.threads or get_num_threads()
    try:
        return run(
            options.model, options.input, n_threads=n_threads, top=options.top, repeat=options.repeat,
            output=options.output,
        )  # fmt: skip
    except (ModelError, MemoryError) as error:
        print(f"convgrad run: {error}", file=sys.stderr)
        return 1


def _info(options):
    import importlib.metadata

    from .config import show_config

    show_config()
    for package, extra in (
        ("safetensors", "checkpoints"), ("matplotlib", "plots"), ("tqdm", "progress"), ("onnx", "onnx"),
        ("autograd", "autograd"),
    ):  # fmt: skip
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = f"not installed: pip install convgrad[{extra}]"
        print(f"{package:>12}: {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
