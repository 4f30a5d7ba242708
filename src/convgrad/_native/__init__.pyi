"""What type checkers see: `memory` and `runtime` have stubs, modules of kernels are only handed on."""

from typing import Any

conv: Any
conv_packed: Any
conv_plan: Any
dense: Any
elementwise: Any
local: Any
norm: Any
pool: Any
rows: Any
