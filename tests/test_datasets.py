"""Datasets: the embedded digits, IDX files and their damage, the stratified split; and start values of weights."""

import gzip
import importlib.resources
import math
import struct
import tracemalloc

import numpy as np
import pytest

from convgrad import datasets, initializers


def idx_bytes(array, code):
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + big_endian.tobytes()


def write(path, content):
    path.write_bytes(content)
    return path


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


class TestDigits:
    def test_are_scikit_learns(self):
        source = pytest.importorskip("sklearn.datasets").load_digits()
        images, labels = datasets.load_digits()
        assert images.shape == (1797, 1, 8, 8)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(images[:, 0] * 16, source.images)
        np.testing.assert_array_equal(labels, source.target)

    def test_are_scaled_to_one_and_hold_every_class(self):
        images, labels = datasets.load_digits()
        assert images.min() == 0
        assert images.max() == 1
        assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]

    def test_each_call_gives_arrays_of_its_own(self):
        datasets.load_digits()[0][...] = 7
        assert datasets.load_digits()[0].max() == 1

    def test_file_is_small_and_has_no_pickle_and_its_licence_beside_it(self):
        folder = importlib.resources.files("convgrad") / "data"
        assert len((folder / "digits.npz").read_bytes()) < 80_000
        licence = (folder / "LICENSE-digits.txt").read_text()
        assert "CC BY 4.0" in licence
        assert "Alpaydin" in licence


class TestIdx:
    @pytest.mark.parametrize(
        "code, dtype", [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
    )
    @pytest.mark.parametrize("compressed", [False, True])
    def test_round_trip(self, tmp_path, code, dtype, compressed):
        array = (np.arange(24).reshape(2, 3, 4) * 5 - 20).astype(dtype)
        content = idx_bytes(array, code)
        result = datasets.load_idx(write(tmp_path / "any-name", gzip.compress(content) if compressed else content))
        assert result.dtype == np.dtype(dtype)
        assert result.dtype.isnative
        assert result.flags.writeable
        np.testing.assert_array_equal(result, array)

    def test_takes_str_and_a_file_with_no_cells(self, tmp_path):
        path = write(tmp_path / "empty", bytes([0, 0, 8, 2]) + struct.pack(">2I", 0, 28))
        assert datasets.load_idx(str(path)).shape == (0, 28)

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"", "not an IDX file: it starts with nothing"),
            (b"\x00\x00\x08", "not an IDX file: it starts with 00 00 08"),
            (b"\x89PNG\r\n", "not an IDX file: it starts with 89 50 4e 47"),
            (b"\x00\x00\x0a\x01\x00\x00\x00\x01x", "type code 0x0a; the format knows 0x08, 0x09"),
            (b"\x00\x00\x08\x00", "claims 0 axes"),
            (b"\x00\x00\x08\xff", "claims 255 axes; 1 to 32"),
            (b"\x00\x00\x08\x02\x00\x00\x00\x01\x00", "ends inside its header, which claims 2 axes"),
            (
                idx_bytes(IMAGES, 8)[:-1],
                r"truncated: its header claims shape \(2, 3, 4\) of uint8, 24 bytes, but only 23",
            ),
            (idx_bytes(IMAGES, 8) + b"x", "holds more than the 24 bytes"),
            (b"\x00\x00\x08\x04" + b"\x00\x00\x00\x00" + b"\xff" * 12, "which NumPy cannot hold"),
        ],
    )
    @pytest.mark.parametrize("compressed", [False, True])
    def test_damage_is_a_clear_error(self, tmp_path, content, message, compressed):
        path = write(tmp_path / "bad", gzip.compress(content) if compressed else content)
        with pytest.raises(ValueError, match=f"load_idx: .*{message}"):
            datasets.load_idx(path)

    def test_header_claiming_terabytes_allocates_nothing(self, tmp_path):
        path = write(tmp_path / "huge", b"\x00\x00\x0e\x03" + b"\xff" * 12 + b"cells")
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="truncated"):
                datasets.load_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()

    def test_a_compressed_file_expands_no_further_than_its_header_says(self, tmp_path):
        path = write(tmp_path / "bomb.gz", gzip.compress(idx_bytes(IMAGES, 8) + bytes(200 << 20)))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="holds more than the 24 bytes"):
                datasets.load_idx(path)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("keep", [12, 30, -1])
    def test_truncated_gzip(self, tmp_path, keep):
        content = gzip.compress(idx_bytes(IMAGES, 8))
        with pytest.raises(ValueError, match="load_idx"):
            datasets.load_idx(write(tmp_path / "cut.gz", content[:keep]))

    def test_every_single_damaged_byte_is_a_value_error_or_another_array(self, tmp_path):
        content = gzip.compress(idx_bytes(IMAGES, 8))
        outcomes = set()
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 0x55
            try:
                datasets.load_idx(write(tmp_path / "damaged.gz", bytes(damaged)))
                outcomes.add("read")
            except ValueError as error:
                outcomes.add(str(error).split(":")[0])
        assert outcomes - {"read"} == {"load_idx"}

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            datasets.load_idx(tmp_path / "nothing-here")


class TestStratifiedSplit:
    def test_every_class_keeps_its_share(self):
        labels = np.repeat([3, 5, 9], [100, 50, 10])
        train, held_out = datasets.stratified_split(labels, 0.2, seed=1)
        assert sorted([*train, *held_out]) == list(range(160))
        assert [int(np.sum(labels[held_out] == value)) for value in (3, 5, 9)] == [20, 10, 2]
        assert not np.array_equal(held_out, np.sort(held_out))

    def test_seed_repeats_and_seeds_differ(self):
        labels = np.arange(200) % 10
        first, again, other = (datasets.stratified_split(labels, 0.2, seed=seed)[1] for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(np.sort(first), np.sort(other))

    @pytest.mark.parametrize(
        "labels, fraction, error, message",
        [
            (np.zeros((3, 2), int), 0.5, ValueError, r"labels must have one axis, got shape \(3, 2\)"),
            (np.zeros(3), 0.5, TypeError, "labels must be integers, got float64"),
            (np.zeros(3, int), 1.0, ValueError, "fraction must be between 0 and 1, both excluded; got 1.0"),
            (np.zeros(3, int), float("nan"), ValueError, "got nan"),
            (np.arange(3), 0.2, ValueError, "leaves one side empty; got 3 and 0 samples"),
            (np.empty(0, int), 0.2, ValueError, "leaves one side empty; got 0 and 0 samples"),
        ],
    )
    def test_errors(self, labels, fraction, error, message):
        with pytest.raises(error, match=f"stratified_split: .*{message}"):
            datasets.stratified_split(labels, fraction)


class TestInitializers:
    SHAPE = (64, 32, 3, 3)
    FAN_IN, FAN_OUT = 32 * 9, 64 * 9

    @pytest.mark.parametrize(
        "name, variance",
        [
            ("he", 2 / FAN_IN),
            ("glorot", 2 / (FAN_IN + FAN_OUT)),
            ("lecun", 1 / FAN_IN),
        ],
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_mean_variance_and_shape_of_the_distribution(self, name, variance, dtype):
        n = math.prod(self.SHAPE)
        for kind, fourth_moment in (("normal", 3.0), ("uniform", 1.8)):
            weight = getattr(initializers, f"{name}_{kind}")(self.SHAPE, rng=7, dtype=dtype)
            assert weight.shape == self.SHAPE
            assert weight.dtype == dtype
            standard = weight.astype(np.float64) / math.sqrt(variance)
            # 5 standard errors each; the fourth moment tells a normal from a uniform distribution
            assert abs(standard.mean()) < 5 / math.sqrt(n)
            assert abs((standard**2).mean() - 1) < 5 * math.sqrt((fourth_moment - 1) / n)
            assert abs((standard**4).mean() - fourth_moment) < 0.4
            if kind == "uniform":
                assert np.abs(standard).max() <= math.sqrt(3) * (1 + 1e-6)

    def test_both_dtypes_start_from_the_same_numbers(self):
        single, double = (initializers.he_normal((8, 4), rng=3, dtype=dtype) for dtype in (np.float32, np.float64))
        np.testing.assert_array_equal(single, double.astype(np.float32))

    def test_generator_moves_on_and_a_seed_repeats(self):
        rng = np.random.default_rng(0)
        assert not np.array_equal(initializers.he_normal((8, 4), rng=rng), initializers.he_normal((8, 4), rng=rng))
        np.testing.assert_array_equal(
            initializers.lecun_uniform((8, 4), rng=0), initializers.lecun_uniform((8, 4), rng=0)
        )

    def test_gain_gives_pytorchs_default_bounds(self):
        weight = initializers.he_uniform((400, 25), rng=0, gain=math.sqrt(1 / 3))
        assert 0.199 < np.abs(weight).max() <= 0.2

    def test_zeros(self):
        assert initializers.zeros((3,), dtype=np.float64).tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        "shape, options, error, message",
        [
            ((3,), {}, ValueError, r"shape must be \(outputs, inputs, ...\) with lengths of at least 1, got \(3,\)"),
            ((3, 0), {}, ValueError, r"got \(3, 0\)"),
            ((3, 4), {"dtype": np.float16}, TypeError, "dtype must be float32 or float64, got float16"),
            ((3, 4), {"dtype": ">f4"}, TypeError, "dtype must be float32 or float64, got >f4"),
            ((3, 4), {"rng": -1}, ValueError, "rng must be at least 0 as a seed, got -1"),
            (
                (3, 4),
                {"rng": True},
                TypeError,
                "rng must be a numpy.random.Generator, an integer seed or None; got True",
            ),
            ((3, 4), {"rng": "0"}, TypeError, "got '0'"),
        ],
    )
    def test_errors(self, shape, options, error, message):
        for name in ("he_normal", "glorot_uniform", "lecun_normal"):
            with pytest.raises(error, match=f"{name}: .*{message}"):
                getattr(initializers, name)(shape, **options)
