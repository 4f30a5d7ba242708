"""Bridges to other libraries: `convgrad.integrations.onnx` runs ONNX models, `convgrad.integrations.autograd` has
primitives for HIPS autograd.

Each imports its host only when it is imported itself, and needs the extra of its name (`pip install convgrad[onnx]`).
"""
