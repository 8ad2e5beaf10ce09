/* figure.c - see figure.h. */
#include "figure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CURVES = 7 };           /* that plots tell apart */

/* ---------------------------------------------------------------------------------------------------------- making */

json_t *cli_figure_add(json_t *record, const char *key, const char *title, const char *about)
{
    json_t *figures = json_object_get(record, "figures"), *figure = json_object();

    if (!figures) {
        figures = json_array();
        cli_set(record, "figures", figures);
    }
    cli_set(figure, "key", json_string(key));
    cli_set(figure, "title", json_string(title));
    cli_set(figure, "about", json_string(about));
    cli_append(figures, figure);
    return figure;
}

void cli_figure_set_detail(json_t *figure) { cli_set(figure, "detail", json_true()); }

static json_t *axis_of(cli_axis a)
{
    json_t *axis = json_object();

    cli_set(axis, "label", json_string(a.label));
    cli_set(axis, "logarithmic", json_boolean(a.logarithmic));
    cli_set(axis, "bytes", json_boolean(a.bytes));
    return axis;
}

void cli_figure_set_axes(json_t *figure, cli_axis x, cli_axis y)
{
    cli_set(figure, "x", axis_of(x));
    cli_set(figure, "y", axis_of(y));
    cli_set(figure, "curves", json_array());
}

json_t *cli_figure_add_curve(json_t *figure, const char *name, bool predicted)
{
    json_t *curve = json_object();

    cli_set(curve, "name", cli_text(name, strlen(name)));
    cli_set(curve, "x", json_array());
    cli_set(curve, "y", json_array());
    if (predicted) cli_set(curve, "predicted", json_array());
    cli_append(json_object_get(figure, "curves"), curve);
    return curve;
}

void cli_curve_add(json_t *curve, double x, double y, double predicted)
{
    json_t *list = json_object_get(curve, "predicted");

    cli_append(json_object_get(curve, "x"), cli_number(x));
    cli_append(json_object_get(curve, "y"), cli_number(y));
    if (list) cli_append(list, cli_number(predicted));
}

void cli_figure_add_row(json_t *figure, const char *const *cells, size_t n)
{
    json_t *table = json_object_get(figure, "table"), *row = json_array();

    if (!table) {
        table = json_array();
        cli_set(figure, "table", table);
    }
    for (size_t i = 0; i < n; i++) cli_append(row, cli_text(cells[i], strlen(cells[i])));
    cli_append(table, row);
}

/* ---------------------------------------------------------------------------------------------------------- curves */

static double value_at(const json_t *list, size_t i)
{
    const json_t *value = json_array_get(list, i);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static cli_axis axis_in(const json_t *figure, const char *key)
{
    const json_t *axis = json_object_get(figure, key);
    return (cli_axis){ cli_get_text(axis, "label"), json_is_true(json_object_get(axis, "logarithmic")),
                       json_is_true(json_object_get(axis, "bytes")) };
}

static double *values_of(const json_t *list, size_t n)
{
    double *values = cli_resize(NULL, n + 1, sizeof *values);

    for (size_t i = 0; i < n; i++) values[i] = value_at(list, i);
    return values;
}

/* Does any curve say more than it measured? */
static bool predicts(const json_t *figure)
{
    const json_t *curve;
    size_t i;

    json_array_foreach(json_object_get(figure, "curves"), i, curve)
        if (json_object_get(curve, "predicted")) return true;
    return false;
}

/* Measured: dots; predicted: a dashed line, which the legend explains by a series that is nowhere; with nothing
 * predicted, the dots are joined. */
static void print_plot(const json_t *figure, const cli_out *out)
{
    static const double nowhere = NAN;
    const json_t *curves = json_object_get(figure, "curves"), *curve;
    cli_series series[2 * MOST_CURVES + 1];
    double *lists[3 * MOST_CURVES];
    size_t i, used = 0, n_lists = 0;
    bool any = predicts(figure);

    json_array_foreach(curves, i, curve) {
        size_t n = json_array_size(json_object_get(curve, "x"));
        cli_series measured = {
            .name = cli_get_text(curve, "name"), .n = n, .line = !any, .dots = true, .colour = 1 + (unsigned)i
        };
        cli_series predicted = { .n = n, .line = true, .dashed = true, .colour = measured.colour };

        if (i == MOST_CURVES) break;
        predicted.x = measured.x = lists[n_lists++] = values_of(json_object_get(curve, "x"), n);
        measured.y = lists[n_lists++] = values_of(json_object_get(curve, "y"), n);
        predicted.y = lists[n_lists++] = values_of(json_object_get(curve, "predicted"), n);
        series[used++] = measured;
        if (any) series[used++] = predicted;
    }
    if (any)
        series[used++] = (cli_series){
            .name = "predicted", .x = &nowhere, .y = &nowhere, .n = 1, .line = true, .dashed = true
        };
    cli_plot_print(&(cli_plot){ cli_get_text(figure, "title"), axis_in(figure, "x"), axis_in(figure, "y"), series,
                                used },
                   out);
    for (i = 0; i < n_lists; i++) free(lists[i]);
}

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All places of all curves, ascending, each once; the caller frees. */
static double *places_of(const json_t *curves, size_t *n)
{
    double *all = NULL;
    size_t capacity = 0, used = 0, i;
    const json_t *curve;

    *n = 0;
    json_array_foreach(curves, i, curve) {
        const json_t *x = json_object_get(curve, "x");
        for (size_t k = 0; k < json_array_size(x); k++) {
            if (isnan(value_at(x, k))) continue;
            cli_grow(&all, &capacity, *n + 1, sizeof *all);
            all[(*n)++] = value_at(x, k);
        }
    }
    if (*n) qsort(all, *n, sizeof *all, compare_numbers);
    for (i = 0; i < *n; i++)
        if (used == 0 || all[i] > all[used - 1]) all[used++] = all[i];
    *n = used;
    return all;
}

static double curve_at(const json_t *curve, const char *key, double place)
{
    const json_t *x = json_object_get(curve, "x");

    for (size_t i = 0; i < json_array_size(x); i++)
        if (value_at(x, i) == place) return value_at(json_object_get(curve, key), i);
    return NAN;
}

/* ---------------------------------------------------------------------------------------------------------- tables */

static const char *number_on(cli_axis a, double value, char text[24])
{
    if (a.bytes && isfinite(value)) return cli_size(value, text);
    if (value >= 0 && value == floor(value) && value < 1e9) {
        snprintf(text, 24, "%.0f", value);
        return text;
    }
    return cli_digits(value, text);
}

/* A table of the curves, in the form of "table": a row for each place. */
static json_t *table_of(const json_t *figure)
{
    const json_t *curves = json_object_get(figure, "curves"), *curve;
    cli_axis x = axis_in(figure, "x"), y = axis_in(figure, "y");
    json_t *made = json_object(), *table;
    const char *cells[1 + 2 * MOST_CURVES];
    char texts[1 + 2 * MOST_CURVES][96], number[24];
    bool predicted = predicts(figure);
    size_t n, i, used = 0;
    double *places = places_of(curves, &n);

    for (size_t k = 0; k < 1 + 2 * MOST_CURVES; k++) cells[k] = texts[k];
    for (size_t row = 0; row <= n; row++) {
        used = 0;
        if (row) snprintf(texts[used++], 96, "%s", number_on(x, places[row - 1], number));
        else snprintf(texts[used++], 96, "%s", x.label);
        json_array_foreach(curves, i, curve) {
            if (i == MOST_CURVES) break;
            if (row) snprintf(texts[used++], 96, "%s", number_on(y, curve_at(curve, "y", places[row - 1]), number));
            else snprintf(texts[used++], 96, "%s", cli_get_text(curve, "name"));
            if (predicted && row)
                snprintf(texts[used++], 96, "%s",
                         number_on(y, curve_at(curve, "predicted", places[row - 1]), number));
            else if (predicted) snprintf(texts[used++], 96, "predicted");
        }
        cli_figure_add_row(made, cells, used);
    }
    free(places);
    table = json_incref(json_object_get(made, "table"));
    json_decref(made);
    return table;
}

/* The first row is the head; Markdown wants a line of dashes below it. */
static void print_table(const json_t *table, cli_figure_form form, const cli_out *out)
{
    bool html = form == CLI_FIGURE_HTML;
    const json_t *row, *cell;
    size_t i, k;

    cli_out_print(out, html ? "<div class='wide'><table>\n" : "\n");
    json_array_foreach(table, i, row) {
        cli_out_print(out, html ? "<tr>" : "|");
        json_array_foreach(row, k, cell) {
            const char *text = json_is_string(cell) ? json_string_value(cell) : "";
            cli_out_print(out, html ? i == 0 ? "<th>" : "<td>" : " ");
            if (html) cli_print_escaped(text, out);
            else cli_out_print(out, "%s", text);
            cli_out_print(out, html ? i == 0 ? "</th>" : "</td>" : " |");
        }
        cli_out_print(out, html ? "</tr>\n" : "\n");
        if (html || i > 0) continue;
        cli_out_print(out, "|");
        for (k = 0; k < json_array_size(row); k++) cli_out_print(out, "---|");
        cli_out_print(out, "\n");
    }
    if (html) cli_out_print(out, "</table></div>\n");
}

/* A paragraph or a heading. */
static void print_text(const char *before, const char *text, const char *after, bool html, const cli_out *out)
{
    cli_out_print(out, "%s", before);
    if (html) cli_print_escaped(text, out);
    else cli_out_print(out, "%s", text);
    cli_out_print(out, "%s\n", after);
}

void cli_figures_print(const json_t *record, cli_figure_form form, bool details, const cli_out *out)
{
    bool html = form == CLI_FIGURE_HTML;
    const json_t *figure;
    size_t i;

    json_array_foreach(json_object_get(record, "figures"), i, figure) {
        json_t *table = json_object_get(figure, "table");
        bool drawn = json_array_size(json_object_get(figure, "curves")) > 0;

        if (json_is_true(json_object_get(figure, "detail")) != details) continue;
        print_text(html ? "<h2>" : "\n## ", cli_get_text(figure, "title"), html ? "</h2>" : "", html, out);
        if (*cli_get_text(figure, "about"))
            print_text(html ? "<p class='soft'>" : "\n", cli_get_text(figure, "about"), html ? "</p>" : "", html,
                       out);
        if (html && drawn) {
            cli_out_print(out, "<div class='wide'>\n");
            print_plot(figure, out);
            cli_out_print(out, "</div>\n");
        }
        table = table ? json_incref(table) : table_of(figure);
        print_table(table, form, out);
        json_decref(table);
    }
}

/* ----------------------------------------------------------------------------------------------------------- files */

static void to_file(void *user, const char *bytes, size_t n) { (void)cli_file_write(user, bytes, n); }

/* A file DIRECTORY/KEY.SUFFIX. A record may be anybody's: its keys are no paths. */
static int open_file(cli_file *f, char path[4096], const char *directory, const char *key, const char *suffix)
{
    int n = snprintf(path, 4096, "%s/%s.%s", directory, key, suffix);

    if (!*key || key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-")])
        return cli_fail("a figure's key is '%s', which has other than small letters, digits and '-'", key);
    if (n < 0 || n >= 4096) return cli_fail("%s: the path is too long", directory);
    if (cli_file_open(f, path) == CLI_DONE) return CLI_DONE;
    (void)cli_file_close(f, false);
    return CLI_FAILED;
}

static int write_plot(const json_t *figure, const char *directory)
{
    char path[4096];
    cli_file f;
    int status = open_file(&f, path, directory, cli_get_text(figure, "key"), "svg");

    if (status != CLI_DONE) return status;
    print_plot(figure, &(cli_out){ to_file, &f });
    return cli_file_close(&f, true);
}

/* Numbers as they are, a column for each of the table's; "nan": not known. */
static int write_numbers(const json_t *figure, const char *directory)
{
    const json_t *curves = json_object_get(figure, "curves"), *curve;
    bool predicted = predicts(figure);
    char path[4096];
    cli_file f;
    cli_out out = { to_file, &f };
    size_t n, i;
    int status = open_file(&f, path, directory, cli_get_text(figure, "key"), "tsv");

    if (status != CLI_DONE) return status;
    cli_out_print(&out, "%s", cli_get_text(json_object_get(figure, "x"), "label"));
    json_array_foreach(curves, i, curve)
        cli_out_print(&out, "\t%s%s", cli_get_text(curve, "name"), predicted ? "\tpredicted" : "");
    double *places = places_of(curves, &n);
    for (size_t k = 0; k < n; k++) {
        cli_out_print(&out, "\n%.9g", places[k]);
        json_array_foreach(curves, i, curve) {
            cli_out_print(&out, "\t%.9g", curve_at(curve, "y", places[k]));
            if (predicted) cli_out_print(&out, "\t%.9g", curve_at(curve, "predicted", places[k]));
        }
    }
    cli_out_print(&out, "\n");
    free(places);
    return cli_file_close(&f, true);
}

/* A setting whose value is text: of quotes in it, two stand for one. */
static void print_setting(const char *name, const char *text, const cli_out *out)
{
    cli_out_print(out, "set %s '", name);
    for (; *text; text++)
        if (*text == '\'') cli_out_print(out, "''");
        else if ((unsigned char)*text >= ' ') out->sink(out->user, text, 1);
    cli_out_print(out, "'\n");
}

/* What gnuplot needs to draw one: KEY.png from KEY.tsv. */
static void print_script(const json_t *figure, const cli_out *out)
{
    const char *key = cli_get_text(figure, "key");
    cli_axis x = axis_in(figure, "x"), y = axis_in(figure, "y");
    const json_t *curve;
    size_t i, column = 2;

    cli_out_print(out, "\nset output '%s.png'\nunset logscale\n", key);
    print_setting("xlabel", x.label, out);
    print_setting("ylabel", y.label, out);
    if (x.logarithmic || y.logarithmic)
        cli_out_print(out, "set logscale %s%s\n", x.logarithmic ? "x" : "", y.logarithmic ? "y" : "");
    cli_out_print(out, "set yrange [%s:*]\nplot ", y.logarithmic ? "*" : "0");
    json_array_foreach(json_object_get(figure, "curves"), i, curve) {
        cli_out_print(out, "%s'%s.tsv' using 1:%zu with points pt 7 lc %zu title columnheader", i ? ", " : "", key,
                      column++, i + 1);
        if (predicts(figure)) cli_out_print(out, ", '' using 1:%zu with lines dt 2 lc %zu notitle", column++, i + 1);
    }
    cli_out_print(out, "\n");
}

int cli_figures_write(const json_t *record, const char *directory)
{
    const json_t *figure;
    char path[4096];
    cli_file script;
    cli_out out = { to_file, &script };
    size_t i;
    int status = open_file(&script, path, directory, "figures", "gp");

    if (status != CLI_DONE) return status;
    cli_out_print(&out, "# Pictures of the figures: gnuplot figures.gp, in this directory.\n"
                        "set datafile separator '\\t'\nset datafile missing 'nan'\nset terminal pngcairo size "
                        "1200,700\nset key left top\n");
    json_array_foreach(json_object_get(record, "figures"), i, figure) {
        if (json_array_size(json_object_get(figure, "curves")) == 0) continue;
        if ((status = write_plot(figure, directory)) != CLI_DONE
            || (status = write_numbers(figure, directory)) != CLI_DONE)
            break;
        print_script(figure, &out);
    }
    return status == CLI_DONE ? cli_file_close(&script, true) : (cli_file_close(&script, false), status);
}
