"""Compiled kernels behind typed memoryviews. Arrays arrive checked; `convgrad.functional` has the public functions."""
