/* Comparisons as full-width integer masks, for instruction sets that compare into vectors. */
typedef ivec v_mask;
INLINE v_mask v_lt(vec a, vec b) {
    return a < b;
}
INLINE v_mask v_le(vec a, vec b) {
    return a <= b;
}
INLINE v_mask v_gt(vec a, vec b) {
    return a > b;
}
INLINE v_mask v_ge(vec a, vec b) {
    return a >= b;
}
INLINE v_mask v_eq(vec a, vec b) {
    return a == b;
}
INLINE v_mask v_isnan(vec a) {
    return a != a;
}
INLINE v_mask v_or(v_mask a, v_mask b) {
    return a | b;
}
INLINE v_mask v_and(v_mask a, v_mask b) {
    return a & b;
}
INLINE v_mask v_not(v_mask a) {
    return ~a;
}
INLINE v_mask v_ieq(ivec a, ivec b) {
    return a == b;
}
INLINE v_mask v_ilt(ivec a, ivec b) {
    return a < b;
}
INLINE ivec v_iblend(v_mask mask, ivec yes, ivec no) {
    return (mask & yes) | (~mask & no);
}
