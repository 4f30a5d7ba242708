cdef void *take(size_t size) noexcept nogil
cdef void give(void *data) noexcept nogil
cdef object empty_like(object x)
cdef bint is_plain(object x) noexcept
