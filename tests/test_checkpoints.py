"""Checkpoints: round trips, exchange with PyTorch's safetensors, damage, and what does not fit a model."""

import subprocess
import sys

import numpy as np
import pytest

from convgrad import checkpoints
from convgrad.layers import Conv2D, Dense, Flatten, ReLU, Sequential

safetensors_numpy = pytest.importorskip("safetensors.numpy")


def make_model(seed=0, features=10):
    rng = np.random.default_rng(seed)
    return Sequential([Conv2D(1, 4, 3, rng=rng), ReLU(), Flatten(), Dense(144, features, rng=rng)])


def test_round_trip_is_exact(tmp_path):
    model, other = make_model(0), make_model(1)
    checkpoints.save(model, tmp_path / "model.safetensors")
    state = checkpoints.load(tmp_path / "model.safetensors", other)
    assert sorted(state) == ["0.bias", "0.weight", "3.bias", "3.weight"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)
        np.testing.assert_array_equal(state[name], array)
        assert state[name].dtype == array.dtype


def test_any_order_and_strides_are_stored_by_value(tmp_path):
    cells = np.arange(24, dtype=np.float64).reshape(4, 6)
    state = {"transposed": cells.T, "strided": cells[::2, ::-3], "swapped": cells.astype(">f8"), "zero": np.float32(2)}
    checkpoints.save(state, tmp_path / "arrays", metadata={"epoch": "3"})
    loaded = checkpoints.load(tmp_path / "arrays")
    for name, array in state.items():
        np.testing.assert_array_equal(loaded[name], array)
    from safetensors import safe_open

    with safe_open(tmp_path / "arrays", framework="np") as opened:
        assert opened.metadata() == {"epoch": "3"}


def test_pytorch_reads_our_file_and_we_read_pytorchs(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    nn = torch.nn
    theirs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    ours = make_model()
    checkpoints.save(ours, tmp_path / "ours")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "ours"), strict=True)
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(theirs.state_dict()[name].numpy(), array)
    torch.manual_seed(3)
    theirs[0].reset_parameters()
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "theirs")
    checkpoints.load(tmp_path / "theirs", ours)
    np.testing.assert_array_equal(ours.state_dict()["0.weight"], theirs[0].weight.detach().numpy())


def test_all_that_does_not_fit_is_named_in_one_message_and_nothing_changes(tmp_path):
    model = make_model()
    state = model.state_dict()
    state["3.weight"] = np.zeros((7, 144), np.float32)
    state["0.bias"] = state["0.bias"].astype(np.float64)
    state["9.weight"] = np.zeros(2, np.float32)
    state["0.weight"] = state["0.weight"] + 1
    del state["3.bias"]
    checkpoints.save(state, tmp_path / "other")
    before = model.state_dict()
    with pytest.raises(ValueError) as caught:
        checkpoints.load(tmp_path / "other", model)
    assert str(caught.value) == (
        f"checkpoints.load: {str(tmp_path / 'other')!r} does not fit the model: load_state_dict: entries do not fit "
        "this Sequential: missing: 3.bias (10,); unexpected: 9.weight (2,); wrong shape: 3.weight has (7, 144) but "
        "the model holds (10, 144); wrong dtype: 0.bias is float64 but the model holds float32"
    )
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[:-1], lambda c: c[:5], lambda c: b"\xff" * 64 + c, lambda c: c + b"x"]
)
def test_damaged_file(tmp_path, damage):
    checkpoints.save(make_model(), tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    (tmp_path / "model").write_bytes(damage(content))
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        checkpoints.load(tmp_path / "model", make_model())


def test_entries_of_a_type_numpy_has_not(tmp_path):
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "bf16").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        checkpoints.load(tmp_path / "bf16")


def test_failed_save_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    model = make_model()
    checkpoints.save(model, tmp_path / "model")
    old = (tmp_path / "model").read_bytes()

    def no_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", no_disk)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(make_model(1), tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_save_goes_through_a_symbolic_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "real")
    checkpoints.save(make_model(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert list(checkpoints.load(tmp_path / "folder" / "real"))


@pytest.mark.parametrize(
    "state, metadata, error, message",
    [
        ([1, 2], None, TypeError, "model must be a Layer or a dict of arrays, got list"),
        ({"a": np.array(["x"])}, None, TypeError, "entry 'a' is <U1; names must be strings and arrays one of float16"),
        ({1: np.zeros(2)}, None, TypeError, "entry 1 is float64; names must be strings"),
        ({"a": np.zeros(2)}, {"epoch": 3}, TypeError, r"metadata must map strings to strings, got {'epoch': 3}"),
    ],
)
def test_save_errors(tmp_path, state, metadata, error, message):
    with pytest.raises(error, match=f"checkpoints.save: {message}"):
        checkpoints.save(state, tmp_path / "model", metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_without_safetensors_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['safetensors'] = None\n"
        "from convgrad import checkpoints\n"
        "for call in (lambda: checkpoints.save({}, 'x'), lambda: checkpoints.load('x')):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        f"checkpoints.{name}: needs safetensors; install it with `pip install convgrad[checkpoints]`"
        for name in ("save", "load")
    ]
