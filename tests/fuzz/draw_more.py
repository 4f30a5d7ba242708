"""Random calls of what is not a convolution: see `draw`."""

import numpy as np
from draw import ACTIVATIONS, FROM_INPUT, Case, activation, batch, joined, one_or_all, sizes

from convgrad import reference


def pooling(rng):
    kernel = [rng.choice((1, 2, 2, 3, 3, 4, 5)) for _ in range(2)]
    if rng.random() < 0.04:
        kernel = [17, 16]  # more cells than a byte counts
    dilation = [rng.choice((1, 1, 1, 2)) for _ in range(2)]
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    stride = None if rng.random() < 0.4 else [rng.choice((1, 1, 2, 3)) for _ in range(2)]
    pads = [(rng.randrange(min(s, 4)), rng.randrange(min(s, 4))) for s in span] if rng.random() < 0.5 else [(0, 0)] * 2
    pixels = [max(sizes(rng, 22), s - sum(p)) for s, p in zip(span, pads, strict=True)]
    layout, n, c = rng.choice(("NCHW", "NHWC")), batch(rng), sizes(rng, 20)
    x = joined(layout, n, c, pixels)
    options = dict(
        stride=None if stride is None else one_or_all(rng, stride), padding=tuple(pads), ceil_mode=rng.random() < 0.3,
        dilation=one_or_all(rng, dilation), layout=layout,
    )  # fmt: skip
    y = reference.avg_pool2d(np.zeros(x), kernel, **options).shape
    options["kernel_size"] = one_or_all(rng, kernel)
    cells = kernel[0] * kernel[1]
    what = rng.choice(
        ("max", "max", "max backward", "plane", "average", "average backward", "learned", "learned backward")
    )
    if what == "max":
        options["return_indices"] = rng.random() < 0.6
        return Case("max_pool2d", {"x": x}, options, exact=True, special=rng.random() < 0.2)

    def indices(given):
        image = np.random.default_rng(rng.randrange(2**32)).integers(-3, 4, x).astype(np.float64)  # many are equal
        return {"indices": reference.max_pool2d(image, return_indices=True, **options)[1]}

    if what == "max backward":
        return Case("max_pool2d_backward", {"grad_output": y}, options | {"input_shape": x}, cells, prepare=indices)
    if what == "plane":
        case = Case("max_pool2d_plane_indices", {}, options | {"input_shape": x}, exact=True)
        case.prepare = indices
        return case
    counted = options | {"count_include_pad": rng.random() < 0.5}
    if what == "average":
        return Case("avg_pool2d", {"x": x}, counted, cells)
    if what == "average backward":
        return Case("avg_pool2d_backward", {"grad_output": y}, counted | {"input_shape": x}, cells)
    if what == "learned":
        return Case("subsample2d", {"x": x, "weight": (c,), "bias": (c,)}, counted, cells)
    length = cells * int(np.prod(x)) // c + 1
    return Case("subsample2d_backward", {"grad_output": y, "x": x, "weight": (c,)}, counted, length)


def global_pooling(rng):
    layout, c, pixels = rng.choice(("NCHW", "NHWC")), sizes(rng, 33), [sizes(rng, 20), sizes(rng, 20)]
    n = batch(rng)
    x, y = joined(layout, n, c, pixels), joined(layout, n, c, (1, 1))
    cells = pixels[0] * pixels[1]
    what = rng.choice(("avg", "avg backward", "max", "max backward"))
    if what == "avg":
        return Case("global_avg_pool2d", {"x": x}, {"layout": layout}, cells)
    if what == "avg backward":
        return Case("global_avg_pool2d_backward", {"grad_output": y}, {"layout": layout, "input_shape": x}, 1)
    if what == "max":
        options = {"layout": layout, "return_indices": rng.random() < 0.6}
        return Case("global_max_pool2d", {"x": x}, options, exact=True, special=rng.random() < 0.2)

    def indices(given):
        return {"indices": np.random.default_rng(rng.randrange(2**32)).integers(0, cells, y)}

    options = {"layout": layout, "input_shape": x}
    return Case("global_max_pool2d_backward", {"grad_output": y}, options, exact=True, prepare=indices)


def any_shape(rng):
    if rng.random() < 0.1:
        return tuple(rng.randint(0, 3) for _ in range(rng.randint(0, 4)))
    return tuple(sizes(rng, 40) for _ in range(rng.choice((1, 1, 2, 2, 3))))


def elementwise(rng):
    name, shape = rng.choice(ACTIVATIONS), any_shape(rng)
    option = {"leaky_relu": "slope", "elu": "alpha"}.get(name)
    options = {option: rng.choice((0.0, 0.01, 0.5, 1.0, 2.0))} if option and rng.random() < 0.7 else {}
    wide = (shape, -30, 30) if rng.random() < 0.3 else (shape, -4, 4)
    if rng.random() < 0.4:
        return Case(name, {"x": wide}, options, 30, special=rng.random() < 0.3, in_place="x")
    other = "input" if name in FROM_INPUT else "output"
    operand = wide if other == "input" else {"sigmoid": (shape, 0, 1), "relu": (shape, 0, 4)}.get(name, (shape, -1, 1))
    if rng.random() < 0.7 or not 2 <= len(shape) <= 4:
        arrays = {"grad_output": shape, other: operand}
        return Case(f"{name}_backward", arrays, options, 30, in_place=rng.choice(("grad_output", other)))
    layout = rng.choice(("NCHW", "NHWC"))
    count = int(np.prod(shape)) // max(shape[1 if layout == "NCHW" else -1], 1)
    given = (name, next(iter(options.values()))) if options else name
    arrays = {"grad_output": shape, "output_or_input": operand}
    return Case("activation_backward_bias", arrays, {"name": given, "layout": layout}, 30 + 2 * count)


def rows(rng):
    what = rng.choice(("softmax", "log_softmax", "softmax_backward", "log_softmax_backward"))
    shape = tuple(sizes(rng, 40) for _ in range(rng.randint(1, 3)))
    axis = rng.randrange(-len(shape), len(shape))
    if what.endswith("backward"):
        operand = (shape, 0, 1) if what == "softmax_backward" else (shape, -8, 0)
        arrays = {"grad_output": shape, "output": operand}
        return Case(what, arrays, {"axis": axis}, 4 * shape[axis] + 30, in_place=rng.choice(("grad_output", "output")))
    return Case(what, {"x": (shape, -60, 60)}, {"axis": axis}, 4 * shape[axis] + 90, in_place="x")


def losses(rng):
    n, k = rng.randint(0, 20), sizes(rng, 33)
    options = {"reduction": rng.choice(("mean", "sum", "none"))}
    length = 40 * max(n, 1) * k + 60 if options["reduction"] == "sum" else 8 * k + 90 + n
    what = rng.choice(("softmax_cross_entropy", "softmax_cross_entropy", "least_squares", "sigmoid_cross_entropy"))
    if what == "softmax_cross_entropy" and rng.random() < 0.6:

        def labels(given):
            return {"labels": np.random.default_rng(rng.randrange(2**32)).integers(0, k, n)}

        return Case(what, {"logits": ((n, k), -20, 20)}, options, 40 * length, prepare=labels, in_place="logits")
    if what == "softmax_cross_entropy":
        return Case(
            what, {"logits": ((n, k), -20, 20), "labels": ((n, k), 0, 1)}, options, 40 * length, in_place="logits"
        )
    if what == "least_squares":
        return Case(what, {"prediction": (n, k), "target": (n, k)}, options, 4 * n * k + length, in_place="prediction")
    return Case(what, {"logits": ((n, k), -20, 20), "targets": ((n, k), 0, 1)}, options, 40 * length, in_place="logits")


def dense(rng):
    leading = [rng.randint(0, 4) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    fan_in, fan_out = sizes(rng, 70), sizes(rng, 40)
    x, y, weight = (*leading, fan_in), (*leading, fan_out), (fan_out, fan_in)
    if rng.random() < 0.5:
        given = {"x": x, "weight": weight} | ({"bias": (fan_out,)} if rng.random() < 0.5 else {})
        return Case("linear", given, {"activation": activation(rng)}, fan_in)
    wanted = {name: rng.random() < 0.8 for name in ("input_grad", "weight_grad", "bias")}
    length = fan_out + int(np.prod(leading))
    return Case("linear_backward", {"grad_output": y, "x": x, "weight": weight}, wanted, length)


def norms(rng):
    if rng.random() < 0.5:
        shape = (rng.randint(2, 6), sizes(rng, 20), *(sizes(rng, 12) for _ in range(rng.randint(0, 2))))
        layout = rng.choice(("NCHW", "NHWC"))
        c = shape[1 if layout == "NCHW" else -1]
        values = int(np.prod(shape)) // c
        training = rng.random() < 0.7
        arrays = {"x": shape, "weight": (c,), "bias": (c,)}
        options = {"training": training, "eps": 0.1, "layout": layout}
        if rng.random() < 0.5:
            if not training or rng.random() < 0.5:
                arrays |= {"running_mean": (c,), "running_var": ((c,), 0.5, 2)}
            return Case(
                "batch_norm", arrays, options | {"momentum": rng.choice((0.0, 0.1, 1.0))}, 8 * values + 60, in_place="x"
            )

        def saved(given):
            mean, var = _moments(given["x"], layout)
            return {"saved_mean": mean, "saved_inv_std": 1 / np.sqrt(var + 0.1)}

        arrays = {"grad_output": shape, "x": shape, "weight": (c,)}
        options = {"training": training, "layout": layout}
        return Case("batch_norm_backward", arrays, options, 40 * values + 60, prepare=saved)
    shape = tuple(sizes(rng, 24) for _ in range(rng.randint(1, 3)))
    last = shape[rng.randrange(len(shape)) :]
    columns = int(np.prod(last))
    if rng.random() < 0.5:
        arrays = {"x": shape, "weight": last, "bias": last}
        return Case("layer_norm", arrays, {"eps": 0.1}, 8 * columns + 60, in_place="x")

    def moments(given):
        flat = given["x"].reshape(*shape[: len(shape) - len(last)], columns)
        return {"saved_mean": flat.mean(-1), "saved_inv_std": 1 / np.sqrt(flat.var(-1) + 0.1)}

    arrays = {"grad_output": shape, "x": shape, "weight": last}
    length = 40 * columns + 60 + 8 * int(np.prod(shape)) // columns
    return Case("layer_norm_backward", arrays, {}, length, prepare=moments)


def _moments(x, layout):
    axes = tuple(axis for axis in range(x.ndim) if axis != (1 if layout == "NCHW" else x.ndim - 1))
    return x.mean(axes), x.var(axes)


def drops(rng):
    name, shape, p = rng.choice(("dropout", "alpha_dropout")), any_shape(rng), rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    if rng.random() < 0.5:
        return Case(
            name, {"x": shape}, {"p": p, "rng": rng.randrange(99), "training": rng.random() < 0.8}, 8, in_place="x"
        )

    def mask(given):
        return {"mask": np.random.default_rng(rng.randrange(2**32)).random(shape) < p}

    return Case(f"{name}_backward", {"grad_output": shape}, {"p": p}, 8, prepare=mask)
