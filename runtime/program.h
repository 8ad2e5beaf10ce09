/* program.h - kernel text to kernel objects: the prelude, the layout of the batch image as macros, and the kernel files,
 * each as often as it has instances, make one program. Where the device has a cache, the compiled program is kept there
 * under its whole text, the options, the device, its driver and its platform. */
#ifndef EY_PROGRAM_H
#define EY_PROGRAM_H

#include "device.h"

/* The built-in kernels, generated from kernels_cl at build time. */
typedef struct ey_kernel_text {
    const char          *name;      /* "matmul.cl" */
    const unsigned char *text;
    size_t               length;
} ey_kernel_text;
extern const ey_kernel_text ey_kernel_texts[];
extern const size_t         ey_kernel_texts_count;

typedef struct ey_program ey_program;

/* Rows of x by panels of weights that a product holds in registers at a time. */
typedef struct ey_tile {
    uint32_t rows, panels;
} ey_tile;

/* Decode of no more rows runs with fewer launches: products normalise their input, convolve and gate their results on
 * their own. With more rows the launches hardly count, and the products have enough to do. */
enum { EY_FEW_ROWS = 4 };

/* Of a device of class CPU: its tiles, lowest first, all of an even number of panels, the last of two. */
const ey_tile *ey_device_tiles(const eyrie_device *dev, size_t *n);
/* Of GPUs, in either phase, lowest first. Matrices in blocks get tiles of two panels instead of four. */
const ey_tile *ey_gpu_tiles(bool decode, size_t *n);

/* Beside the formats that a program is for: products on the CPU's matrix unit. Only where the probe "amx" has said yes, and
 * this process may use tiles. */
enum { EY_MATRIX_UNIT = 1 << 30 };
/* Those of decode of many rows, too, beside it. A sequence then has other bits in such steps than alone. */
enum { EY_UNIT_DECODE = 1 << 26 };
/* The same: products with weights that have a scale round what they read to whole numbers of 8 bits (matmul.cl). They sum by
 * VNNI instructions, with the same bits, where the probe "vnni" has said yes. */
enum { EY_INT8 = 1 << 29, EY_VNNI = 1 << 28 };
/* And what products by CLBlast need; without the matrix unit. */
enum { EY_CLBLAST = 1 << 27 };

/* Weight formats that the matrix unit takes, which multiplies bf16: those of fewer bits lose little by being rounded to it,
 * those of more were asked for. */
enum { EY_UNIT_FORMATS = 1 << EYRIE_FORMAT_BF16 | 1 << EYRIE_FORMAT_Q8 | 1 << EYRIE_FORMAT_Q4 };

/* Builds the kernels for the weight formats in `formats` (bit 1 << eyrie_format) and the ring's type `kv`: from the binary
 * in the cache, or from their text if there is none or it does not load, which leaves a note.
 * EBUILD: the compiler's first error, with file and line; EIO: a file of --kernel-dir that cannot be read. */
eyrie_status ey_program_build(ey_program **out, eyrie_device *dev, uint32_t formats, eyrie_format kv, eyrie_error *err);
void         ey_program_free(ey_program *p);

/* Products of prefill with weights in this format are on the matrix unit; with EY_UNIT_DECODE, those of decode, too. */
bool         ey_program_has_unit(const ey_program *p, eyrie_format weights);
bool         ey_program_has_unit_decode(const ey_program *p);
bool         ey_program_has_clblast(const ey_program *p);
/* The others with weights in this format are in 8 bits. */
bool         ey_program_has_int8(const ey_program *p, eyrie_format weights);

/* The kernel of that name; made at the first call, owned by the program. EBUILD: there is none. */
eyrie_status ey_program_kernel(ey_program *p, const char *name, cl_kernel *out, eyrie_error *err);

/* What the compiler said of a program that it refused: the first line that speaks of an error. */
void ey_program_error(cl_program program, cl_device_id device, char *line, size_t size);

/* Keeps a program that was built from text in the cache. To be called once, when every kernel has been launched: some
 * drivers put into a binary only kernels that were made, or the machine code only of those that ran. The first time, PoCL
 * compiles every kernel of the program once more for this. */
void ey_program_store(ey_program *p);

#endif
