"""A wheel beside NumPy alone: import time, one call in both backends, one step of training.

--beside-tests : what the tests need may be installed too
"""

import importlib.metadata
import sys
import time

import numpy as np

present = {distribution.name for distribution in importlib.metadata.distributions()}
assert "--beside-tests" in sys.argv or present <= {"convgrad", "numpy", "pip", "setuptools"}, present

start = time.perf_counter()
import convgrad

print(f"import over NumPy's own: {1e3 * (time.perf_counter() - start):.0f} ms")

from convgrad import datasets, layers, optimizers, training

x, labels = datasets.load_digits()
weight = np.random.default_rng(0).standard_normal((8, 1, 3, 3), dtype=np.float32)
native = convgrad.conv2d(x, weight, padding="same")
with convgrad.backend("numpy"):
    np.testing.assert_allclose(native, convgrad.conv2d(x, weight, padding="same"), rtol=1e-4, atol=1e-4)

model = layers.Sequential([layers.Conv2D(1, 8, 3, activation="relu"), layers.Flatten(), layers.Dense(288, 10)])
history = training.fit(
    model, x[:256], labels[:256], loss="softmax_cross_entropy", optimizer=optimizers.Adam(1e-3), epochs=2, batch_size=64
)
assert history["loss"][-1] < history["loss"][0], history
print("smoke test: passed")
