/* int8.cl - x to whole numbers of 8 bits, for products of many rows with INT8 (matmul.cl; prelude.cl has the layout).
 * Instances: one a weight FORMAT with a scale.
 *
 * x : [rows, x_stride] f32, columns from x_offset     packed : [most, stride] words
 * Rows [skip, skip + most) of those that the word `count` of the batch counts, normalised as in norm.cl if `width` is not
 * 0. One work-group a row. */
kernel void INSTANCE(quantise)(image b, global const float *x, int x_stride, int x_offset, global const float *scale, int width,
                               float eps, int K, int blocks, int count, int skip, int most, global float *packed, int stride)
{
    int r = get_global_id(0);
    if (r >= min(b[count] - skip, most)) return;

    x += (size_t)(skip + r) * x_stride + x_offset;
    packed += (size_t)r * stride;
    float inverse = width ? inverse_rms(x, K, width, eps) : 1.0f;
    for (int i = 0; i < blocks; i++, x += K)
        for (int k = 0; k < K; k += 32, packed += GROUP_WORDS)
            MAKE_GROUP(x, k, K, width, inverse, scale, *(global packed_group *)packed);
}
