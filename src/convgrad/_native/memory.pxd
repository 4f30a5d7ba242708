cdef void *take(size_t size) noexcept nogil
cdef void give(void *data) noexcept nogil
