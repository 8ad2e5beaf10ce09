/* clblast.cl - what products by CLBlast (runtime/ops/clblast.c) need besides: sums to add to, and the gate. In the program
 * only where such products are asked for. One work-item takes 16 columns of a token; work-groups of any size. */

/* y = bias (+ y), [tokens, y_stride] from y_offset, for `width` columns. */
kernel void clblast_begin(image b, global const float *bias, int width, int add, global float *y, int y_stride, int y_offset)
{
    int c = get_global_id(0) * LANES, t = get_global_id(1);
    if (t >= b[B_N_TOKENS] || c >= width) return;

    y += (size_t)t * y_stride + y_offset + c;
    float16 v = vload16(0, bias + c);
    if (add) v += vload16(0, y);
    vstore16(v, 0, y);
}

/* y = gelu(gate) * up: sums has 16 columns of the gate, then the same 16 of up, and so on; `width` of each. */
kernel void clblast_geglu(image b, global const float *sums, int stride, int width, global float *y, int y_stride, int y_offset)
{
    int c = get_global_id(0) * LANES, t = get_global_id(1);
    if (t >= b[B_N_TOKENS] || c >= width) return;

    sums += (size_t)t * stride + 2 * c;
    vstore16(gelu16(vload16(0, sums)) * vload16(1, sums), 0, y + (size_t)t * y_stride + y_offset + c);
}
