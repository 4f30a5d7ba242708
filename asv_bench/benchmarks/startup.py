"""What a user pays before the first result, and for every call: size, import, the first call, checks and allocation."""

import importlib.metadata
import io
import statistics
import subprocess
import sys
import zipfile

from .common import _Compared, data, some

_IMPORT = """
import time
import numpy
start = time.perf_counter()
import convgrad
print(time.perf_counter() - start)
"""


class Startup:
    """Fresh interpreters."""

    timeout = 120

    def track_import_over_numpy(self):
        """Seconds that `import convgrad` takes once NumPy is there; median of nine interpreters."""
        runs = (subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True) for _ in range(9))
        return statistics.median(float(run.stdout) for run in runs)

    track_import_over_numpy.unit = "s"

    def timeraw_first_call(self):
        """Import and one small convolution."""
        return """
        import numpy as np
        import convgrad
        convgrad.conv2d(np.ones((1, 1, 28, 28), np.float32), np.ones((6, 1, 5, 5), np.float32))
        """


class Size:
    """What is installed."""

    def track_wheel_bytes(self):
        """Bytes of the installed files in a zip archive at zlib's level 9: the wheel before Zopfli."""
        try:
            files = importlib.metadata.files("convgrad") or []
        except importlib.metadata.PackageNotFoundError:
            raise NotImplementedError("convgrad is not installed, only on the path") from None
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
            for file in sorted(files, key=str):
                if file.suffix != ".pyc" and file.locate().is_file():
                    wheel.writestr(str(file), file.locate().read_bytes())
        return len(archive.getvalue())

    track_wheel_bytes.unit = "bytes"


CALLS = {
    "relu, 10": ("relu", ((10,),), {}),
    "conv2d, 1 x 28 x 28, 6 of 5 x 5": ("conv2d", ((1, 1, 28, 28), (6, 1, 5, 5)), {}),
    "max_pool2d, 28 x 28": ("max_pool2d", ((1, 1, 28, 28),), {"kernel_size": 2}),
    "linear, 1 x 84 to 10": ("linear", ((1, 84), (10, 84), (10,)), {}),
    "softmax, 1 x 10": ("softmax", ((1, 10),), {}),
}


class CallOverhead(_Compared):
    """Calls whose arithmetic hardly counts: every check on, a fresh result each time."""

    params = [some(CALLS, 3), ["float32"], [1]]
    param_names = ["layer", "dtype", "n_threads"]

    def setup(self, layer, dtype, n_threads):
        self.needs = (CALLS[layer][0],)
        super().setup(layer, dtype, n_threads)

    def operation(self, module, layer, dtype):
        name, shapes, options = CALLS[layer]
        arrays = data(*shapes, dtype=dtype)
        return lambda: getattr(module, name)(*arrays, **options)
