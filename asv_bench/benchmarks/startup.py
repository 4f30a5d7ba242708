"""What a user pays before the first result: import, and the first call."""

import statistics
import subprocess
import sys

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
