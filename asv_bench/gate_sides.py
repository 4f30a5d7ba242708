"""Two builds of one package side by side in one process, each with extension modules and state of its own."""

import contextlib
import importlib
import sys
from pathlib import Path

PACKAGE = "convgrad"


def _is_ours(name):
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


class Side:
    """One build: the package in `folder`, imported apart from every other side.

    While a side is not active none of its modules is in `sys.modules`. What it imports late, inside a function, is
    found and kept as long as calls that may do so run under `active()`.
    """

    def __init__(self, name, folder):
        self.name, self.folder = name, Path(folder)
        self._modules = {}
        with self.active():
            sys.path.insert(0, str(self.folder))
            try:
                self.module = importlib.import_module(PACKAGE)
                for part in ("layers", "optimizers"):  # now, not in the middle of a round
                    with contextlib.suppress(ImportError):
                        importlib.import_module(f"{PACKAGE}.{part}")
            finally:
                sys.path.remove(str(self.folder))
        where = Path(self.module.__file__).resolve()
        if not where.is_relative_to(self.folder.resolve()):
            raise ImportError(f"{name} was to come from {self.folder} but came from {where.parent}")

    @contextlib.contextmanager
    def active(self):
        """Put the side's modules where `import` finds them, and take back what was there on the way out."""
        before = {key: sys.modules.pop(key) for key in [*sys.modules] if _is_ours(key)}
        sys.modules.update(self._modules)
        try:
            yield self
        finally:
            self._modules = {key: sys.modules.pop(key) for key in [*sys.modules] if _is_ours(key)}
            sys.modules.update(before)

    def libraries(self):
        """Files of the side's extension modules."""
        files = (getattr(module, "__file__", None) or "" for module in self._modules.values())
        return {file for file in files if file.endswith((".so", ".pyd"))}


def load_both(base, head, head_first=False):
    """(base side, head side) from two folders; raises ImportError where they share a library."""
    folders = {"BASE": base, "HEAD": head}
    order = ["HEAD", "BASE"] if head_first else ["BASE", "HEAD"]
    sides = {name: Side(name, folders[name]) for name in order}
    shared = sides["BASE"].libraries() & sides["HEAD"].libraries()
    if shared or not sides["BASE"].libraries():
        raise ImportError(f"the two sides must have libraries of their own, but share {sorted(shared)}")
    return sides["BASE"], sides["HEAD"]
