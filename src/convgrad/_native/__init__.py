"""Compiled kernels behind typed memoryviews. Arrays arrive checked; see `convgrad.functional` for the public functions."""
