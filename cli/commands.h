/* commands.h - the commands, a file each; main.c has their table. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "options.h"

int cli_run(const cli_options *o);
int cli_chat(const cli_options *o);
int cli_score(const cli_options *o);
int cli_batch(const cli_options *o);
int cli_info(const cli_options *o);
int cli_devices(const cli_options *o);
int cli_pack(const cli_options *o);
int cli_tune(const cli_options *o);
int cli_bench(const cli_options *o);
int cli_sim(const cli_options *o);
int cli_selftest(const cli_options *o);

#endif
