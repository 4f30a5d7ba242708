"""The performance dashboard: `python asv_bench/dashboard.py build` writes it, `... serve` shows it on this machine.

A static site from the files under asv_bench/results: a front page of ratios, a table of every case, regressions found
by gate.py, and asv's curves where results of asv are recorded. It needs no network and no web server, except that the
curves read their data through one.
"""

import argparse
import functools
import http.server
import sys
from pathlib import Path

from page.build import MARK, build
from page.results import Unusable

ROOT = Path(__file__).resolve().parent.parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, form, *arguments):
        """Say nothing."""


def serve(target, port):
    """Serve the folder on this machine only, until interrupted."""
    handler = functools.partial(Quiet, directory=str(target))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise Unusable(f"cannot listen on port {port}: {error}; choose another with --port") from None
    with server:
        print(f"{target} on http://127.0.0.1:{server.server_port}/ until Ctrl+C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main(arguments=None):
    """Parse the command line and run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dashboard.py", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("build", "write the site"), ("serve", "show it, after building it if it is not there")):
        add = commands.add_parser(name, help=words, description=words).add_argument
        add("--out", type=Path, default=ROOT / "build" / "dashboard", metavar="DIR", help="default: build/dashboard")
        add("--results", type=Path, default=ROOT / "asv_bench" / "results", metavar="DIR", help="what to show")
        add("--root", type=Path, default=ROOT, metavar="DIR", help="the git repository that was measured")
        if name == "serve":
            add("--port", type=int, default=8000, help="0 takes any that is free")
    options = parser.parse_args(arguments)
    try:
        if options.command == "build" or not (options.out / MARK).is_file():
            files, size = build(options.root.resolve(), options.results, options.out)
            print(f"{options.out}: {files} files, {size / 1e6:.1f} MB", flush=True)
        if options.command == "serve":
            serve(options.out, options.port)
    except Unusable as error:
        print(f"dashboard.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
