/* geglu.cl - out = gelu(gate) * up, gate and up columns of x. x, out : [tokens, stride] f32. One work-group a token and
 * 1024 columns. */
kernel void geglu(image b, global const float *x, int x_stride, int gate_offset, int up_offset, int M, global float *out,
                  int out_stride)
{
    int t = get_global_id(1);
    if (t >= b[B_N_TOKENS]) return;
    int to = min(((int)get_global_id(0) + 1) * 1024, M);

    x += (size_t)t * x_stride;
    out += (size_t)t * out_stride;
    for (int c = get_global_id(0) * 1024; c < to; c += LANES)
        vstore16(gelu16(vload16(0, x + gate_offset + c)) * vload16(0, x + up_offset + c), 0, out + c);
}
