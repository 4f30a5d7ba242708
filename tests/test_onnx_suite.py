"""The ONNX project's own backend tests: every node test of the operators we have, and the nine light topologies.

What is left out is what `prepare` refuses, and every line that it refuses must be named in `LEFT_OUT`, with a reason.
"""

import re
import unittest
import warnings
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx.backend.test import BackendTest

from convgrad.integrations import onnx as backend

# Refused operators by reason. The tests of a function's expansion count as tests of the operators in it.
OPERATORS = {
    "attention and language models": "Attention LinearAttention RotaryEmbedding RMSNormalization LayerNormalization "
    "SwiGLU Swish TensorScatter CausalConvWithState Trilu",
    "recurrent networks": "RNN LSTM GRU",
    "control flow and sequences": "If Loop Scan SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
    "SequenceInsert SequenceLength SplitToSequence ConcatFromSequence OptionalGetElement OptionalHasElement",
    "losses: training": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "quantised numbers": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger "
    "MatMulInteger",
    "bits": "BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitCast",
    "text": "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer",
    "signals and images": "BlackmanWindow HammingWindow HannWindow DFT STFT MelWeightMatrix ImageDecoder AffineGrid "
    "GridSample Col2Im CenterCropPad RoiAlign DeformConv",
    "random numbers": "Bernoulli RandomUniformLike",
    "scattering, sorting and indices that choose": "Scatter ScatterElements ScatterND GatherElements GatherND Compress "
    "NonZero NonMaxSuppression OneHot TopK Unique ReverseSequence EyeLike MaxUnpool",
    "norms, sums and activations that the networks named do not use": "Celu CumProd CumSum Det Einsum Erf "
    "GroupNormalization Hardmax IsInf LpNormalization LpPool MeanVarianceNormalization Shrink Softsign ThresholdedRelu",
}
# Other refusals: a pattern for the line of `UnsupportedModelError`, and the reason.
LEFT_OUT = {
    r"a window with 3 spatial axes": "the kernels are those of one and two spatial axes",
    r"(bfloat16|float8\w+|float4\w+|u?int[24]\b).* is not supported": "NumPy has no such numbers",
    r"(float16|uint8) \(float32 and float64 are what": "the kernels compute in float32 and float64",
    r"object is not supported": "text",
    r"is a (sequence|optional)_type": "sequences and optional values",
    r"Selu .* alpha 2.0, gamma 3.0": "the kernel has the published constants of SELU",
    r"Gelu .* approximate 'tanh'": "the kernel has the exact form of GELU",
    r"Dropout .* training_mode": "training",
    r"broadcasting from an axis on": "how operator set 6 broadcast, gone since 7",
    r"operator set 1: 6 to": "operator sets before 6",
    r"domain 'ai.onnx.preview|operator set 'ai.onnx.preview": "previews: FlexAttention and training",
    r"operator set 'ai.onnx.ml'": "another domain: classical machine learning",
} | {
    rf"^({'|'.join(names.split())}) '.*': this operator is not supported": reason for reason, names in OPERATORS.items()
}  # fmt: skip

SEEN: Counter = Counter()


class Twice(backend.ConvgradBackend):
    """The backend under test, each model run twice: watched, then with the plan made from that."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **kwargs):
        return True  # let `prepare` decide, and say why

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        try:
            return RunTwice(super().prepare(model, device, **kwargs))
        except backend.UnsupportedModelError as error:
            for problem in error.problems:
                found = [pattern for pattern in LEFT_OUT if re.search(pattern, problem)]
                assert found, f"refused, but not left out: {problem}"
                SEEN.update(found[:1])
            raise unittest.SkipTest(LEFT_OUT[found[0]]) from None


class RunTwice:
    def __init__(self, model):
        self.model = model

    def run(self, inputs):
        first = self.model.run(inputs)
        for a, b in zip(first, self.model.run(inputs), strict=True):
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-6, atol=1e-6)
        return first


@pytest.fixture(scope="module")
def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the expected results overflows here and there
        return BackendTest(Twice, __name__).test_cases


@pytest.mark.parametrize(
    "category, at_least",
    [("NodeModel", 940), ("RealModel", 9), ("SimpleModel", 6), ("PyTorchConvertedModel", 65),
     ("PyTorchOperatorModel", 30)],
)  # fmt: skip
def test_suite(cases, category, at_least, tmp_path, monkeypatch):
    monkeypatch.setenv("ONNX_HOME", str(tmp_path))
    monkeypatch.setenv("ONNX_MODELS", str(tmp_path))
    case = cases[f"OnnxBackend{category}Test"]
    names = [name for name in dir(case) if name.startswith("test_") and name.endswith("_cpu")]
    result = unittest.TestResult()
    unittest.TestSuite(map(case, names)).run(result)
    assert not result.failures + result.errors, "\n".join(text for _, text in result.failures + result.errors)
    passed = result.testsRun - len(result.skipped)
    print(f"{category}: {passed} passed, {len(result.skipped)} left out")
    assert passed >= at_least


def test_every_line_of_the_list_is_needed(cases):
    assert set(LEFT_OUT) == set(SEEN)
