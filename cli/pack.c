/* pack.c - `eyrie pack`: a checkpoint whose weights lie as devices read them. */
#include "commands.h"
#include "terminal.h"

#include <inttypes.h>

int cli_pack(const cli_options *o)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_model_opts opts = cli_model_opts(o);
    cli_progress p = cli_progress_new();
    eyrie_status st;
    eyrie_error err;

    opts.progress = cli_progress_show;
    opts.progress_user = &p;
    st = eyrie_pack(o->model, o->output, &opts, &err);
    cli_progress_wipe(&p);
    if (st != EYRIE_OK || eyrie_model_inspect(o->output, NULL, &info, &err) != EYRIE_OK)
        return cli_fail("%s", err.text);
    cli_print("%s: %s, %" PRIu64 " bytes of tensors\n", o->output, cli_format_name(info.weights), info.file_bytes);
    return CLI_DONE;
}
