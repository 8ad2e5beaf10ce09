/* copy.cl - ranges of bytes from buffer to buffer, eight in a launch, past the caches (runtime/copy.c). Not part of any plan, so
 * without a batch image.
 *
 * Work-item (p, r) copies piece p of range r: n vectors of 64 bytes from `from` + at to `to` + to_at, in pieces of `piece`
 * vectors, whose halves it copies side by side: memory has a better pace for two streams than for one. */
#if defined(__x86_64__) || defined(__aarch64__)
#define STREAM(v, to) __builtin_nontemporal_store(v, to)
#else
#define STREAM(v, to) *(to) = (v)
#endif

#define RANGE(i) global const uint16 *from##i, ulong at##i, global uint16 *to##i, ulong to_at##i, ulong n##i
#define TAKE(i)  if (r == i) from = from##i + at##i, to = to##i + to_at##i, n = n##i

kernel void copy_ranges(ulong piece, RANGE(0), RANGE(1), RANGE(2), RANGE(3), RANGE(4), RANGE(5), RANGE(6), RANGE(7))
{
    size_t r = get_global_id(1);
    global const uint16 *from = from0;
    global uint16 *to = to0;
    ulong n = 0, i = get_global_id(0) * piece, side = piece / 2;

    TAKE(0); TAKE(1); TAKE(2); TAKE(3); TAKE(4); TAKE(5); TAKE(6); TAKE(7);
    for (ulong end = min(i + side, n); i < end; i++) {
        STREAM(from[i], to + i);
        if (i + side < n) STREAM(from[i + side], to + i + side);
    }
}
