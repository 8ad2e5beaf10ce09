/* vnni.cl - sums of products of bytes by the VNNI instructions of x86 CPUs with AVX-512, for matmul.cl. In the program only
 * where the probe "vnni" has said yes (runtime/probe.c): it is assembly. */
#define VNNI 1

/* dot += the products of 32 columns: w[8] of four bytes without a sign for each of 16 rows, x [32] of bytes with one. */
#define DOT_32(dot, w, x)                                                                                               \
    __asm__("vpdpbusd (%9)%{1to16%}, %1, %0\n\tvpdpbusd 4(%9)%{1to16%}, %2, %0\n\t"                                     \
            "vpdpbusd 8(%9)%{1to16%}, %3, %0\n\tvpdpbusd 12(%9)%{1to16%}, %4, %0\n\t"                                   \
            "vpdpbusd 16(%9)%{1to16%}, %5, %0\n\tvpdpbusd 20(%9)%{1to16%}, %6, %0\n\t"                                  \
            "vpdpbusd 24(%9)%{1to16%}, %7, %0\n\tvpdpbusd 28(%9)%{1to16%}, %8, %0"                                       \
            : "+v"(dot) : "v"((w)[0]), "v"((w)[1]), "v"((w)[2]), "v"((w)[3]), "v"((w)[4]), "v"((w)[5]), "v"((w)[6]),    \
              "v"((w)[7]), "r"(x) : "memory")
