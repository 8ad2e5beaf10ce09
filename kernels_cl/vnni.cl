/* vnni.cl - sums of products of bytes by the VNNI instructions of x86 CPUs with AVX-512, for matmul.cl. In the program only
 * where the probe "vnni" has said yes (runtime/probe.c): it is assembly. */
#define VNNI 1

/* sum = fma(dot, by * scale, sum), dot being that of 32 columns: w[8], four bytes without a sign for each of 16 rows, with the
 * numbers of a packed group, which have one. Left to itself, the compiler makes all rows' dots first and has no room for them. */
#define ADD_GROUP(sum, w, by, group)                                                                                    \
    do {                                                                                                                \
        int16 dot;                                                                                                      \
        float16 factor;                                                                                                 \
        __asm__("vpbroadcastd 36(%12), %1\n\t"                                                                          \
                "vpdpbusd (%12)%{1to16%}, %3, %1\n\tvpdpbusd 4(%12)%{1to16%}, %4, %1\n\t"                               \
                "vpdpbusd 8(%12)%{1to16%}, %5, %1\n\tvpdpbusd 12(%12)%{1to16%}, %6, %1\n\t"                             \
                "vpdpbusd 16(%12)%{1to16%}, %7, %1\n\tvpdpbusd 20(%12)%{1to16%}, %8, %1\n\t"                            \
                "vpdpbusd 24(%12)%{1to16%}, %9, %1\n\tvpdpbusd 28(%12)%{1to16%}, %10, %1\n\t"                           \
                "vmulps 32(%12)%{1to16%}, %11, %2\n\tvcvtdq2ps %1, %1\n\tvfmadd231ps %1, %2, %0"                        \
                : "+v"(sum), "=&v"(dot), "=&v"(factor) : "v"((w)[0]), "v"((w)[1]), "v"((w)[2]), "v"((w)[3]),            \
                  "v"((w)[4]), "v"((w)[5]), "v"((w)[6]), "v"((w)[7]), "v"(by), "r"(group) : "memory");                  \
    } while (0)
