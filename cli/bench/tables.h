/* tables.h - a record as people read it: Markdown, a table for each kind of row. */
#ifndef CLI_TABLES_H
#define CLI_TABLES_H

#include "record.h"

void cli_tables_print(const json_t *record, const cli_out *out);

#endif
