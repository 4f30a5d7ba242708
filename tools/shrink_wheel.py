"""Compress wheels again, with Zopfli's search for short deflate streams: `python tools/shrink_wheel.py WHEEL ...`.

The files inside, and so RECORD, stay the same; a wheel of convgrad becomes a twenty-fifth smaller in about ten seconds.
Needs zopfli. `setup.py` does it to each wheel it builds where zopfli is there; wheels that auditwheel has repaired are
written anew and want it again.
"""

import os
import sys
import zipfile
from unittest import mock


class _Compressor:
    """What zipfile expects of a compressor."""

    def __init__(self):
        self._parts = []

    def compress(self, data):
        self._parts.append(bytes(data))
        return b""

    def flush(self):
        from zopfli import zlib

        return zlib.compress(b"".join(self._parts), numiterations=5)[2:-4]  # without zlib's header and checksum


def _compressor(_type, _level=None):
    return _Compressor()


def shrink(path):
    """Rewrite the wheel at `path`; return its sizes before and after."""
    before, temporary = os.path.getsize(path), f"{path}.tmp"
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as target,
        mock.patch("zipfile._get_compressor", new=_compressor),
    ):
        for entry in source.infolist():
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(entry))
    with zipfile.ZipFile(temporary) as written:
        if written.testzip() is not None:
            raise RuntimeError(f"{temporary}: damaged while it was compressed")
    os.replace(temporary, path)
    return before, os.path.getsize(path)


if __name__ == "__main__":
    for wheel in sys.argv[1:]:
        print(f"{wheel}: {' -> '.join(map(str, shrink(wheel)))} bytes")
