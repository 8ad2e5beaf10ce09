/* gpu_norm.cl - norm.cl's RMS norm on GPUs: one work-group of 256 a row. Arguments are norm.cl's. Work-item i adds up the
 * squares of columns i, i + 256, ..., then their sums are added in halves. */
kernel WORK_GROUP(256) void gpu_norm(image b, global const float *x, int x_stride, global const float *scale, int width,
                                     int D, float eps, int wanted, global float *y, int y_stride)
{
    local float parts[256];
    int r = get_group_id(0), id = get_local_id(0);
    int columns = r < b[wanted ? B_N_WANTED : B_N_TOKENS] ? D : 0;
    global const float *in = x + (size_t)(wanted && columns ? b[b[B_WANTED] + r] : r) * x_stride;
    float squares = 0.0f;

    for (int c = id; c < columns; c += 256) squares = fma(in[c], in[c], squares);
    parts[id] = squares;
    SYNC();
    for (int half_way = 128; half_way > 0; half_way /= 2) {
        if (id < half_way) parts[id] += parts[id + half_way];
        SYNC();
    }
    float inverse = 1.0f / sqrt(parts[0] / (float)width + eps);
    for (int c = id; c < columns; c += 256) y[(size_t)r * y_stride + c] = in[c] * inverse * scale[c];
}
