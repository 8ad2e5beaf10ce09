/* pack.c - `eyrie pack`: a checkpoint whose weights lie as devices read them. */
#include "commands.h"
#include "session.h"

#include <inttypes.h>

int cli_pack(const cli_options *o)
{
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_error err;

    if (cli_model_pack(o, &err) != EYRIE_OK || eyrie_model_inspect(o->output, NULL, &info, &err) != EYRIE_OK)
        return cli_fail("%s", err.text);
    cli_print("%s: %s, %" PRIu64 " bytes of tensors\n", o->output, cli_format_name(info.weights), info.file_bytes);
    return CLI_DONE;
}
