from .kernels cimport cg_axis, cg_phase

cdef enum:
    FORWARD
    GRAD_INPUT
    GRAD_WEIGHT

cdef class Axis:
    cdef cg_axis axis
    cdef cg_phase *phases
    cdef ptrdiff_t *taps

cdef class Plan:
    cdef readonly Axis rows, cols, one_row, all_cols
    cdef ptrdiff_t groups
    cdef bint channels_last, depthwise
    cdef int m, m_strict, axis  # Winograd's tiles by precision, 0: none; cg_winograd_args.axis
    cdef bint whole  # the kernel covers all of x: a matrix product of flattened samples
    cdef dict samples  # Axis of a row of so many samples
    cdef int tile(self, bint strict) noexcept

cdef cg_axis row_of_samples(Plan plan, ptrdiff_t n)
cdef Plan plan_of(shape, int direction, bint is_float32)
