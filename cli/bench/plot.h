/* plot.h - lines and points over two axes, as SVG. Knows nothing of what they mean. */
#ifndef CLI_PLOT_H
#define CLI_PLOT_H

#include "record.h"

typedef struct cli_series {
    const char  *name;              /* for the legend; NULL: not in it */
    const double *x, *y;            /* [n]; points that are not finite, or not above 0 on a logarithmic axis, are left out */
    size_t       n;
    bool         line, dots;
    bool         dashed;
    unsigned     colour;            /* series of one colour belong together; 0 is grey */
    const char *const *titles;      /* [n] of the dots, shown by those who point there; NULL: none */
} cli_series;

typedef struct cli_axis {
    const char *label;
    bool        logarithmic;
    bool        bytes;              /* ticks are sizes such as 64 KiB; on logarithmic axes only */
} cli_axis;

typedef struct cli_plot {
    const char       *title;        /* for those who do not see it */
    cli_axis          x, y;         /* axes that are not logarithmic begin at 0 */
    const cli_series *series;
    size_t            n;
} cli_plot;

/* An element <svg> that fits into a page and stands alone as a file. Nothing where there is no point. */
void cli_plot_print(const cli_plot *plot, const cli_out *out);

/* Text as HTML and XML have it. */
void cli_print_escaped(const char *text, const cli_out *out);

#endif
