/* devices.c - `eyrie devices`: what devices there are, and of one of them what it can do, how fast it is, and which kernels
 * it gets. */
#include "commands.h"
#include "device.h"
#include "probing.h"

#include <inttypes.h>
#include <string.h>

enum { MOST_DEVICES = 64, MOST_VARIANTS = 32 };

/* What is told of one device. */
typedef struct details {
    uint32_t      number;
    eyrie_verdict verdicts[CLI_PROBES];
    bool          measured;
    eyrie_rates   rates;
    eyrie_variant variants[MOST_VARIANTS];
    size_t        n_variants;
} details;

/* -------------------------------------------------------------------------------------------------------- details */

static int get_details(details *d, eyrie_device *device, bool probed)
{
    const eyrie_probe *p;
    eyrie_error err;

    d->number = eyrie_device_number(device);
    d->n_variants = eyrie_device_variants(device, d->variants, MOST_VARIANTS);
    for (size_t i = 0; i < CLI_PROBES && (p = eyrie_probe_at(i)) != NULL; i++) {
        if (probed) eyrie_probe_remember(device, p->name, &d->verdicts[i]);
        else eyrie_probe_recall(device, p->name, &d->verdicts[i]);
    }
    if (probed && eyrie_device_measure(device, &d->rates, &err) != EYRIE_OK) return cli_fail("%s", err.text);
    d->measured = probed;
    return CLI_DONE;
}

/* ------------------------------------------------------------------------------------------------------------ text */

/* "1.5 GiB" of a number of bytes. */
static const char *amount(uint64_t bytes, char text[24])
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes;
    int unit = 0;

    while (value >= 1024 && unit < 4) value /= 1024, unit++;
    snprintf(text, 24, "%.*f %s", unit == 0 || value >= 10 ? 0 : 1, value, units[unit]);
    return text;
}

static void print_device(const eyrie_device_info *i, size_t number)
{
    char memory[24], most[24];

    cli_print("%3zu  %s%s\n", number, i->name, i->is_default ? "  (default)" : "");
    cli_print("     %s, %" PRIu32 " compute unit%s, %s %s, at most %s in one allocation\n", i->type, i->units,
              i->units == 1 ? "" : "s", amount(i->memory, memory), i->host_memory ? "shared with the host" : "of its own",
              amount(i->max_alloc, most));
    cli_print("     %s, driver %s\n", i->version, i->driver);
}

static void print_details(const details *d)
{
    const eyrie_probe *p;
    const char *before = "";

    cli_print("\nCapabilities of device %" PRIu32 "\n", d->number);
    for (size_t i = 0; i < CLI_PROBES && (p = eyrie_probe_at(i)) != NULL; i++) {
        const eyrie_verdict *v = &d->verdicts[i];
        cli_print("  %-17s %-10s  %s\n", p->name, eyrie_answer_text(v->answer), p->what);
        if (v->reason[0]) cli_print("  %-17s %-10s  %s\n", "", "", v->reason);
        cli_print("  %-17s %-10s  for %s\n", "", "", p->use);
    }
    if (d->measured)
        cli_print("\nMeasured\n  reads %.3g GB/s (%" PRIu32 " stream%s a work-item), f32 FMA %.3g GFLOP/s, a launch %.3g us\n",
                  1e-9 * d->rates.read_bytes, d->rates.streams, d->rates.streams == 1 ? "" : "s", 1e-9 * d->rates.fma_flops,
                  1e6 * d->rates.launch_seconds);
    for (int refused = 0; refused < 2; refused++)
        for (size_t i = 0; i < d->n_variants; i++) {
            const eyrie_variant *v = &d->variants[i];
            const char *title = refused ? "\nRefused\n" : "\nKernels\n";
            if (v->chosen == (refused != 0)) continue;
            if (before != title) cli_print("%s", title);
            before = title;
            cli_print("  %-10s %-30s  %s\n", v->op, v->name, v->reason);
        }
}

/* ------------------------------------------------------------------------------------------------------------ JSON */

static json_t *string_of(const char *text) { return cli_text(text, strlen(text)); }

static json_t *device_json(const eyrie_device_info *i, size_t number)
{
    json_t *object = json_object();

    cli_set(object, "number", json_integer((json_int_t)number));
    cli_set(object, "name", string_of(i->name));
    cli_set(object, "default", json_boolean(i->is_default));
    cli_set(object, "type", json_string(i->type));
    cli_set(object, "driver", string_of(i->driver));
    cli_set(object, "version", string_of(i->version));
    cli_set(object, "units", json_integer(i->units));
    cli_set(object, "vector", json_integer(i->vector));
    cli_set(object, "memory_bytes", json_integer((json_int_t)i->memory));
    cli_set(object, "max_alloc_bytes", json_integer((json_int_t)i->max_alloc));
    cli_set(object, "host_memory", json_boolean(i->host_memory));
    return object;
}

/* What is told of the selected device goes into its object. */
static void add_details(json_t *object, const details *d)
{
    json_t *capabilities = json_object(), *variants = json_array();
    const eyrie_probe *p;

    for (size_t i = 0; i < CLI_PROBES && (p = eyrie_probe_at(i)) != NULL; i++) {
        json_t *capability = json_object();
        cli_set(capability, "answer", json_string(eyrie_answer_text(d->verdicts[i].answer)));
        cli_set(capability, "reason", string_of(d->verdicts[i].reason));
        cli_set(capability, "what", string_of(p->what));
        cli_set(capability, "use", string_of(p->use));
        cli_set(capabilities, p->name, capability);
    }
    for (size_t i = 0; i < d->n_variants; i++) {
        json_t *variant = json_object();
        cli_set(variant, "op", json_string(d->variants[i].op));
        cli_set(variant, "name", json_string(d->variants[i].name));
        cli_set(variant, "chosen", json_boolean(d->variants[i].chosen));
        cli_set(variant, "reason", string_of(d->variants[i].reason));
        cli_append(variants, variant);
    }
    cli_set(object, "capabilities", capabilities);
    cli_set(object, "variants", variants);
    if (d->measured) {
        cli_set(object, "read_bytes_per_second", cli_number(d->rates.read_bytes));
        cli_set(object, "fma_flops_per_second", cli_number(d->rates.fma_flops));
        cli_set(object, "streams", json_integer(d->rates.streams));
        cli_set(object, "launch_seconds", cli_number(d->rates.launch_seconds));
    }
}

/* --------------------------------------------------------------------------------------------------------- command */

/* d NULL: nothing was asked of any device. */
static void print_all(const eyrie_device_info *list, size_t n, const details *d, bool json)
{
    json_t *object = json_object(), *devices = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *device = device_json(&list[i], i);
        if (d && d->number == i) add_details(device, d);
        if (!json) print_device(&list[i], i);
        cli_append(devices, device);
    }
    cli_set(object, "devices", devices);
    if (json) {
        cli_print_json(object);
        return;
    }
    json_decref(object);
    if (d) print_details(d);
}

int cli_devices(const cli_options *o)
{
    static eyrie_device_info list[MOST_DEVICES];
    static details d;
    bool detailed = o->probe || o->device;
    eyrie_device *device = NULL;
    eyrie_error err;
    size_t n = 0;
    int status = cli_prepare(o);

    if (status != CLI_DONE) return status;
    if (o->probe) cli_probe_all(o, d.verdicts);
    if (eyrie_device_list(list, MOST_DEVICES, &n, &err) != EYRIE_OK
        || (detailed && cli_device_open(&device, o, &err) != EYRIE_OK))
        return cli_fail("%s", err.text);
    if (detailed) status = get_details(&d, device, o->probe);
    if (status == CLI_DONE) print_all(list, n < MOST_DEVICES ? n : MOST_DEVICES, detailed ? &d : NULL, o->json);
    (void)eyrie_device_close(device);
    return status;
}
