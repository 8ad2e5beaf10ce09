/* plot.c - see plot.h. */
#include "plot.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 400, LEFT = 66, RIGHT = 18, TOP = 14, BOTTOM = 52, LINE = 19, MOST_TICKS = 24 };

/* Okabe and Ito's, which people who see colours differently tell apart, on black and on white. */
static const char *const colours[] = { "#8a8a8a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#9a6324" };
enum { COLOURS = sizeof colours / sizeof *colours };

typedef struct scale {
    const cli_axis *axis;
    double          low, high;      /* logarithms to base 10 on a logarithmic axis */
    double          from, to;       /* where they are in the picture */
    double          ticks[MOST_TICKS];
    size_t          n_ticks;
} scale;

void cli_print_escaped(const char *text, const cli_out *out)
{
    for (; *text; text++) {
        if (*text == '<') cli_out_print(out, "&lt;");
        else if (*text == '>') cli_out_print(out, "&gt;");
        else if (*text == '&') cli_out_print(out, "&amp;");
        else if (*text == '"') cli_out_print(out, "&quot;");
        else out->sink(out->user, text, 1);
    }
}

/* NaN: cannot be shown. */
static double on_axis(const cli_axis *a, double value)
{
    if (!isfinite(value)) return NAN;
    if (!a->logarithmic) return value;
    return value > 0 ? log10(value) : NAN;
}

static double place(const scale *s, double value)
{
    return s->from + (on_axis(s->axis, value) - s->low) / (s->high - s->low) * (s->to - s->from);
}

static void add_tick(scale *s, double value)
{
    double at = on_axis(s->axis, value);

    if (s->n_ticks < MOST_TICKS && at >= s->low - 1e-9 && at <= s->high + 1e-9) s->ticks[s->n_ticks++] = value;
}

/* Round numbers: powers of ten, with 2 and 5 between them where they are few; of sizes, every second or third power of two. */
static void choose_ticks(scale *s)
{
    double span = s->high - s->low;

    if (s->axis->logarithmic && s->axis->bytes) {
        double step = span > 3.7 ? 3 : 2;
        for (double k = ceil(s->low / log10(2)); k <= s->high / log10(2) + 1e-9; k++)
            if (fmod(k, step) < 0.5) add_tick(s, pow(2, k));
    } else if (s->axis->logarithmic) {
        for (double k = floor(s->low); k <= s->high; k++) {
            add_tick(s, pow(10, k));
            if (span > 3) continue;
            add_tick(s, 2 * pow(10, k));
            add_tick(s, 5 * pow(10, k));
        }
    } else {
        double step = pow(10, floor(log10(s->high / 4)));
        if (!(step > 0)) return;            /* all is below 0, or as good as 0 */
        while (s->high / step > 8) step *= fmod(log10(step) + 100, 1) < 0.2 ? 2 : 2.5;
        for (double k = 0; k * step <= s->high; k++) add_tick(s, k * step);
    }
}

/* From the least to the largest, with some room. */
static bool fit(scale *s, const cli_plot *p, bool vertical)
{
    double low = INFINITY, high = -INFINITY, margin;

    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->series[i].n; k++) {
            double x = on_axis(&p->x, p->series[i].x[k]), y = on_axis(&p->y, p->series[i].y[k]), at = vertical ? y : x;
            if (isnan(x) || isnan(y)) continue;
            low = fmin(low, at);
            high = fmax(high, at);
        }
    if (low > high) return false;
    if (!s->axis->logarithmic) low = fmin(0, low);
    margin = s->axis->logarithmic ? fmax(0.04 * (high - low), 0.05) : 0.06 * (high - low) + (high > low ? 0 : 1);
    s->low = s->axis->logarithmic ? low - margin : low;
    s->high = high + margin;
    choose_ticks(s);
    return true;
}

static void print_tick(const cli_axis *a, double value, const cli_out *out)
{
    char text[24];

    if (a->bytes) cli_out_print(out, "%s", cli_size(value, text));
    else if (value >= 10000) cli_out_print(out, "%.3gk", value / 1000);
    else if (value >= 100) cli_out_print(out, "%.0f", value);
    else cli_out_print(out, "%.3g", value);
}

static void print_axes(const scale *x, const scale *y, const cli_out *out)
{
    for (size_t i = 0; i < x->n_ticks; i++) {
        double at = place(x, x->ticks[i]);
        cli_out_print(out, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' stroke='currentColor' stroke-opacity='.15'/>"
                      "<text x='%.1f' y='%.1f' text-anchor='middle'>", at, at, y->to, y->from, at, y->from + 18);
        print_tick(x->axis, x->ticks[i], out);
        cli_out_print(out, "</text>\n");
    }
    for (size_t i = 0; i < y->n_ticks; i++) {
        double at = place(y, y->ticks[i]);
        cli_out_print(out, "<line x1='%.1f' x2='%.1f' y1='%.1f' y2='%.1f' stroke='currentColor' stroke-opacity='.15'/>"
                      "<text x='%.1f' y='%.1f' text-anchor='end'>", x->from, x->to, at, at, x->from - 7, at + 4.5);
        print_tick(y->axis, y->ticks[i], out);
        cli_out_print(out, "</text>\n");
    }
    cli_out_print(out, "<path d='M%.1f %.1fV%.1fH%.1f' fill='none' stroke='currentColor'/>\n<text x='%.1f' y='%.1f' text-anchor='middle'>", x->from,
                  y->to, y->from, x->to, (x->from + x->to) / 2, y->from + 40);
    cli_print_escaped(x->axis->label, out);
    cli_out_print(out, "</text>\n<text transform='translate(16 %.1f) rotate(-90)' text-anchor='middle'>", (y->from + y->to) / 2);
    cli_print_escaped(y->axis->label, out);
    cli_out_print(out, "</text>\n");
}

static void print_series(const cli_series *s, const scale *x, const scale *y, const cli_out *out)
{
    const char *colour = colours[s->colour % COLOURS];
    bool begun = false;

    for (size_t i = 0; s->line && i < s->n; i++) {
        double px = place(x, s->x[i]), py = place(y, s->y[i]);
        if (isnan(px) || isnan(py)) continue;
        if (!begun) cli_out_print(out, "<path fill='none' stroke='%s' stroke-width='2' stroke-linejoin='round'%s d='", colour, s->dashed ? " stroke-dasharray='6 4'" : "");
        cli_out_print(out, "%s%.1f %.1f", begun ? "L" : "M", px, py);
        begun = true;
    }
    if (begun) cli_out_print(out, "'/>\n");
    for (size_t i = 0; s->dots && i < s->n; i++) {
        double px = place(x, s->x[i]), py = place(y, s->y[i]);
        if (isnan(px) || isnan(py)) continue;
        cli_out_print(out, "<circle cx='%.1f' cy='%.1f' r='%s' fill='%s' fill-opacity='.85'>", px, py, s->line ? "3" : "5", colour);
        if (s->titles) {
            cli_out_print(out, "<title>");
            cli_print_escaped(s->titles[i], out);
            cli_out_print(out, "</title>");
        }
        cli_out_print(out, "</circle>\n");
    }
}

static bool in_legend(const cli_series *s) { return s->name && s->n > 0; }

/* Below the axes, a line each. */
static void print_legend(const cli_plot *p, const cli_out *out)
{
    double at = HEIGHT + 8;

    for (size_t i = 0; i < p->n; i++) {
        const cli_series *s = &p->series[i];
        const char *colour = colours[s->colour % COLOURS];
        if (!in_legend(s)) continue;
        if (s->line) cli_out_print(out, "<path d='M%d %.1fh24' stroke='%s' stroke-width='2'%s/>", LEFT, at, colour, s->dashed ? " stroke-dasharray='6 4'" : "");
        if (s->dots) cli_out_print(out, "<circle cx='%d' cy='%.1f' r='5' fill='%s'/>", LEFT + 12, at, colour);
        cli_out_print(out, "<text x='%d' y='%.1f'>", LEFT + 32, at + 4.5);
        cli_print_escaped(s->name, out);
        cli_out_print(out, "</text>\n");
        at += LINE;
    }
}

void cli_plot_print(const cli_plot *p, const cli_out *out)
{
    scale x = { .axis = &p->x, .from = LEFT, .to = WIDTH - RIGHT }, y = { .axis = &p->y, .from = HEIGHT - BOTTOM, .to = TOP };
    int height = HEIGHT;

    if (!fit(&x, p, false) || !fit(&y, p, true)) return;
    for (size_t i = 0; i < p->n; i++) height += in_legend(&p->series[i]) ? LINE : 0;
    cli_out_print(out, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' role='img' font-family='system-ui,sans-serif' font-size='14' "
                  "fill='currentColor'>\n<title>", WIDTH, height);
    cli_print_escaped(p->title, out);
    cli_out_print(out, "</title>\n<style>@media(prefers-color-scheme:dark){svg{color:#e7eaed}}</style>\n");
    print_axes(&x, &y, out);
    for (size_t i = 0; i < p->n; i++) print_series(&p->series[i], &x, &y, out);
    print_legend(p, out);
    cli_out_print(out, "</svg>\n");
}
