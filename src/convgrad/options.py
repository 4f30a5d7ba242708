"""Options of convolutions brought to one form: stride, dilation, padding, layout.

`dims` is the number of spatial axes, 2 or 1. Everything here returns exact ints, tuples and strings, so that what comes
out can be a cache key: True or 1.0 never passes for 1.
"""

from .checks import choice, integer, pair, shown

LAYOUTS = ("NCHW", "NHWC")
LAYOUTS_1D = {"NCW": "NCHW", "NWC": "NHWC", "NCHW": "NCHW", "NHWC": "NHWC"}
PADDING_NAMES = ("valid", "same", "full")

# Larger options are mistakes; keeping them out lets the kernels add and multiply without overflow.
LARGEST_OPTION = 2**31 - 1

AXIS_NAMES = {1: ("columns",), 2: ("rows", "columns")}

_DIMENSIONS = {
    (1, "NCHW"): "(N, C, W)",
    (1, "NHWC"): "(N, W, C)",
    (2, "NCHW"): "(N, C, H, W)",
    (2, "NHWC"): "(N, H, W, C)",
}
_PADDING_FORMS = {1: ("an integer", "(left, right)"), 2: ("an integer", "(h, w)", "((top, bottom), (left, right))")}


def plain_layout(function, dims, layout):
    """Return "NCHW" or "NHWC" for a layout name of `dims` spatial axes."""
    if dims == 2:
        return choice(function, "layout", layout, LAYOUTS)
    return LAYOUTS_1D[choice(function, "layout", layout, tuple(LAYOUTS_1D))]


def check_axes(function, name, dims, layout, shape):
    """Refuse a shape with the wrong number of axes, or one that is empty along another axis than the batch."""
    if len(shape) != dims + 2:
        what, got = ("entries", "got") if name == "input_shape" else ("axes", "got shape")
        raise ValueError(f"{function}: {name} must have {dims + 2} {what} {_DIMENSIONS[dims, layout]}, {got} {shape}")
    if 0 in shape[1:]:
        raise ValueError(f"{function}: only the batch axis of {name} may be empty; got {name} {shape}")


def is_exact_pair(value):
    """True for a tuple of two ints of exactly that type: safe as a cache key, though not yet checked."""
    return type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int


def per_axis(function, name, dims, value, minimum):
    """Bring an int, or one int per spatial axis, to a tuple with one int per spatial axis."""
    if dims == 2:
        value = pair(function, name, value, minimum)
    else:
        if isinstance(value, (tuple, list)):
            if len(value) != 1:
                raise ValueError(f"{function}: {name} must be an integer, got {shown(value)}")
            value = value[0]
        value = (integer(function, name, value, minimum),)
    _check_largest(function, name, max(value))
    return value


def exact_padding(function, dims, padding, names=PADDING_NAMES):
    """Bring padding to one of `names`, an int, ((top, bottom), (left, right)) or, with one axis, (left, right)."""
    if isinstance(padding, str):
        if padding not in names:
            raise ValueError(f"{function}: padding must be {_listed(dims, names)}; got {shown(padding)}")
        return str.__str__(padding)
    if not isinstance(padding, (tuple, list)):
        padding = integer(function, "padding", padding, 0)
        _check_largest(function, "padding", padding)
        return padding
    entries = padding if dims == 2 else (padding,)
    for pairs in (padding, *entries):
        if isinstance(pairs, (tuple, list)) and len(pairs) != 2:
            raise ValueError(f"{function}: padding must be {_listed(dims, names)}; got {shown(padding)}")
    exact = tuple(pair(function, "padding", entry, 0) for entry in entries)
    _check_largest(function, "padding", max(map(max, exact)))
    return exact if dims == 2 else exact[0]


def resolve_padding(function, dims, padding, sizes, kernel, stride, dilation):
    """Return ((before, after), ...), one pair per spatial axis, for padding in any form."""
    padding = exact_padding(function, dims, padding)
    if isinstance(padding, tuple):
        return padding if dims == 2 else (padding,)
    if isinstance(padding, int):
        return ((padding, padding),) * dims
    resolved = []
    for size, taps, step, dilate in zip(sizes, kernel, stride, dilation, strict=True):
        span = dilate * (taps - 1) + 1
        if padding == "valid":
            resolved.append((0, 0))
        elif padding == "full":
            resolved.append((span - 1, span - 1))
        else:  # ONNX SAME_UPPER: the result has ceil(size / stride) entries, an odd zero goes after
            total = max((-(-size // step) - 1) * step + span - size, 0)
            resolved.append((total // 2, total - total // 2))
    return tuple(resolved)


def _check_largest(function, name, value):
    if value > LARGEST_OPTION:
        raise ValueError(f"{function}: {name} must be at most {LARGEST_OPTION}, got {shown(value)}")


def _listed(dims, names):
    forms = [*_PADDING_FORMS[dims], *map(repr, names)]
    return ", ".join(forms[:-1]) + f" or {forms[-1]}"
