/* figure.h - figures of a record: curves over an axis, measured and predicted, and tables. A figure is a JSON object
 * in the record's "figures", so that whoever reads the record has what was drawn; here it is made, and printed as
 * Markdown, as HTML, as SVG and as columns of numbers. Knows nothing of what it shows.
 *
 *     { "key": "decode-16", "title": TEXT, "about": TEXT, "detail": BOOL,
 *       "x": { "label": TEXT, "logarithmic": BOOL, "bytes": BOOL }, "y": the same,
 *       "curves": [ { "name": TEXT, "x": [NUMBERS], "y": [NUMBERS or null], "predicted": [NUMBERS or null] } ],
 *       "table": [ [TEXTS of the head], [TEXTS of a row], ... ] }
 *
 * A figure has curves or a table; of curves a table is made. "predicted" may be missing. */
#ifndef CLI_FIGURE_H
#define CLI_FIGURE_H

#include "plot.h"

/* Appends a figure to the record's, and returns it. */
json_t *cli_figure_add(json_t *record, const char *key, const char *title, const char *about);
void    cli_figure_set_axes(json_t *figure, cli_axis x, cli_axis y);
json_t *cli_figure_add_curve(json_t *figure, const char *name, bool predicted);
/* y or predicted NaN: not known. */
void    cli_curve_add(json_t *curve, double x, double y, double predicted);
/* A row of `n` texts; the first is the head. */
void    cli_figure_add_row(json_t *figure, const char *const *cells, size_t n);

/* A figure for those who want to know more; false as long as it is not said. */
void    cli_figure_set_detail(json_t *figure);

/* Those that are details, or those that are not. */
typedef enum cli_figure_form { CLI_FIGURE_MD, CLI_FIGURE_HTML } cli_figure_form;
void cli_figures_print(const json_t *record, cli_figure_form form, bool details, const cli_out *out);

/* KEY.svg and KEY.tsv for each figure, and figures.gp, which gnuplot makes pictures of all of them with, into a
 * directory that is there. */
int cli_figures_write(const json_t *record, const char *directory);

#endif
