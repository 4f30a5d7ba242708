"""What fully connected layers and optimizers run: products, and steps over all parameters.

x, grad_output and weight have two axes and any strides; where neither is of adjacent numbers they are copied first. An
optimizer's step is one call for all parameters, in which each array is read and written once.
"""

from libc.math cimport INFINITY, isfinite, sqrt
from libc.string cimport memset

cimport numpy as cnp

from .kernels cimport (
    CG_F32, CG_F64, CG_KERNEL_gemm, CG_KERNEL_gradient_norm, CG_KERNEL_linear_backward, CG_KERNEL_optimizer_step,
    CG_OPTIMIZER_BLOCK, cg_gemm_args, cg_linear_backward_args, cg_optimizer_args, cg_tensor,
)
from .memory cimport give, take
from .runtime cimport execute

cnp.import_array()

cdef inline object adjacent(object x):
    """x, or a copy of it, with adjacent numbers along one of its two axes."""
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    if cnp.PyArray_STRIDE(x, 1) == size or cnp.PyArray_STRIDE(x, 0) == size:
        return x
    return cnp.PyArray_NewCopy(x, cnp.NPY_CORDER)


cdef object product(cg_gemm_args *args, object a, bint a_transposed, object b, bint b_transposed, out):
    """Arguments of out = a b, a or b read with its axes exchanged where it says so; returns what must outlive them."""
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(out)
    cdef int k = 0 if a_transposed else 1
    b = adjacent(b)
    memset(args, 0, sizeof(cg_gemm_args))
    args.a, args.b, args.c = cnp.PyArray_DATA(a), cnp.PyArray_DATA(b), cnp.PyArray_DATA(out)
    args.M, args.N = cnp.PyArray_DIM(out, 0), cnp.PyArray_DIM(out, 1)
    args.K = cnp.PyArray_DIM(a, k)
    args.a_row, args.a_k = cnp.PyArray_STRIDE(a, 1 - k) // size, cnp.PyArray_STRIDE(a, k) // size
    k = 1 if b_transposed else 0
    args.b_k, args.b_n = cnp.PyArray_STRIDE(b, k) // size, cnp.PyArray_STRIDE(b, 1 - k) // size
    args.c_row = args.N
    return b


def forward(x, weight, bias, int activation_code, double activation_parameter, out):
    """out = activation(x weight^T + bias)."""
    cdef cg_gemm_args args
    _kept = product(&args, x, False, weight, True, out)
    if bias is not None:
        if not cnp.PyArray_IS_C_CONTIGUOUS(bias):
            bias = cnp.PyArray_NewCopy(bias, cnp.NPY_CORDER)
        args.bias = cnp.PyArray_DATA(bias)
    args.activation, args.parameter = activation_code, activation_parameter
    execute(CG_KERNEL_gemm, CG_F32 if cnp.PyArray_TYPE(out) == cnp.NPY_FLOAT else CG_F64, &args)


def backward(grad_output, x, weight, grad_x, grad_weight, grad_bias):
    """Those of the three results that are not None: grad_output weight, grad_output^T x, grad_output's sum of rows."""
    cdef cg_linear_backward_args args
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(grad_output)
    memset(&args, 0, sizeof(args))
    if grad_x is not None:
        _kept = product(&args.input, grad_output, False, weight, False, grad_x)
    if grad_weight is not None:
        _kept_too = product(&args.weight, grad_output, True, x, False, grad_weight)
    if grad_bias is not None:
        args.bias.x, args.bias.out = cnp.PyArray_DATA(grad_output), cnp.PyArray_DATA(grad_bias)
        args.bias.at.stride_w = cnp.PyArray_STRIDE(grad_output, 0) // size
        args.bias.at.stride_c = cnp.PyArray_STRIDE(grad_output, 1) // size
        args.bias.N = args.bias.H = 1
        args.bias.W, args.bias.C = cnp.PyArray_DIM(grad_output, 0), cnp.PyArray_DIM(grad_output, 1)
    execute(CG_KERNEL_linear_backward, CG_F32 if size == 4 else CG_F64, &args)


# ---------------------------------------------------------------- optimizers

cdef enum:
    N_CONSTANTS = 7
    NOT_FINITE = -2
    NO_MEMORY = -3


cdef bint fits(object data, object grad) noexcept:
    """Whether both are arrays of one shape and of one of the dtypes of the kernels, data writeable."""
    cdef int kind, i
    if not (cnp.PyArray_Check(data) and cnp.PyArray_Check(grad)):
        return False
    kind = cnp.PyArray_TYPE(data)
    if (
        (kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE) or cnp.PyArray_TYPE(grad) != kind
        or cnp.PyArray_NDIM(grad) != cnp.PyArray_NDIM(data)
        or not (cnp.PyArray_ISNOTSWAPPED(data) and cnp.PyArray_ISNOTSWAPPED(grad) and cnp.PyArray_ISWRITEABLE(data))
    ):
        return False
    for i in range(cnp.PyArray_NDIM(data)):
        if cnp.PyArray_DIM(data, i) != cnp.PyArray_DIM(grad, i):
            return False
    return True


def step(
    list parameters, list states, int rule, constants, double low, double high, double max_norm, double decay
):
    """Update every parameter by `rule` (enum cg_rule); see optimizer.inc.h for the equations.

    states : for each parameter a list [steps taken, arrays of the rule ...], C-contiguous, of the parameter's shape
    constants : function from the number of a step, from 1, to its tuple of constants
    low, high : bounds of the elements of a gradient
    max_norm : bound of the norm of all gradients together, infinity for none

    Returns -1, or the position of the first parameter whose gradient or state does not fit, or -2 where `max_norm` is
    finite and the norm is not; nothing has changed then.
    """
    cdef Py_ssize_t n = len(parameters)
    cdef size_t each = sizeof(cg_tensor) + N_CONSTANTS * sizeof(double)
    cdef char *block
    cdef list kept = [], back = []
    if n == 0:
        return -1
    block = <char *>take(n * each)
    if block == NULL:
        raise MemoryError()
    try:
        result = update(
            <cg_tensor *>block, <double *>(block + n * sizeof(cg_tensor)), parameters, states, rule, constants, low,
            high, max_norm, decay, kept, back,
        )
    finally:
        give(block)
    if result == NO_MEMORY:
        raise MemoryError()
    for data, copy in back:
        data[...] = copy
    return result


cdef long update(
    cg_tensor *tensor, double *constant, list parameters, list states, int rule, constants, double low, double high,
    double max_norm, double decay, list kept, list back,
) except -4:
    """`step` in memory for the tensors and their constants; arrays that must outlive it go to `kept`."""
    cdef cg_optimizer_args args[2]
    cdef cg_tensor *at
    cdef cg_optimizer_args *group
    cdef Py_ssize_t i, j, n = len(parameters)
    cdef Py_ssize_t first = 0, last = n
    cdef double total = 0, norm
    cdef long t, known = -1
    cdef tuple values = ()
    cdef list state
    cdef double *totals
    memset(args, 0, sizeof(args))
    for i in range(n):
        parameter = parameters[i]
        data, grad = parameter.data, parameter.grad
        if not fits(data, grad):
            return i
        if not (cnp.PyArray_IS_C_CONTIGUOUS(data) and cnp.PyArray_ISALIGNED(data)):
            copy = data.copy()
            back.append((data, copy))
            data = copy
        if not (cnp.PyArray_IS_C_CONTIGUOUS(grad) and cnp.PyArray_ISALIGNED(grad)):
            grad = grad.copy()
        kept.append(data)
        kept.append(grad)
        # float32 from the front, float64 from the back: each dtype has kernels of its own
        group = args
        if cnp.PyArray_TYPE(data) == cnp.NPY_FLOAT:
            at = tensor + first
            first += 1
        else:
            last -= 1
            at = tensor + last
            group = args + 1
        at.data = cnp.PyArray_DATA(data)
        at.grad = cnp.PyArray_DATA(grad)
        at.n = cnp.PyArray_SIZE(data)
        group.n_elements += at.n
        state = states[i]
        for j in range(1, len(state)):
            if not (fits(state[j], data) and cnp.PyArray_IS_C_CONTIGUOUS(state[j])):
                return i
            at.state[j - 1] = cnp.PyArray_DATA(state[j])
        t = <long>state[0] + 1
        if t != known:
            values = constants(t)
            known = t
        at.constant = constant
        for j in range(len(values)):
            constant[j] = values[j]
        constant += N_CONSTANTS
    args[0].tensor, args[0].n_tensors = tensor, first
    args[1].tensor, args[1].n_tensors = tensor + last, n - last
    for j in range(2):
        group = args + j
        group.rule, group.low, group.high, group.scale, group.decay = rule, low, high, 1, decay
        for i in range(group.n_tensors):
            at = <cg_tensor *>group.tensor + i
            at.first_block = group.n_blocks
            group.n_blocks += (at.n + CG_OPTIMIZER_BLOCK - 1) // CG_OPTIMIZER_BLOCK
    if max_norm < INFINITY:
        for j in range(2):
            group = args + j
            totals = <double *>take((group.n_blocks + 1) * sizeof(double))
            if totals == NULL:
                return NO_MEMORY
            group.totals = totals
            execute(CG_KERNEL_gradient_norm, CG_F64 if j else CG_F32, group)
            for i in range(group.n_blocks):
                total += totals[i]
            give(totals)
        norm = sqrt(total)
        if not isfinite(norm):
            return NOT_FINITE
        args[0].scale = args[1].scale = min(1.0, max_norm / (norm + 1e-6))
    for state in states:
        state[0] += 1
    for j in range(2):
        execute(CG_KERNEL_optimizer_step, CG_F64 if j else CG_F32, args + j)
    return -1
