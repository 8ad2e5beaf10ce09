/* served.h - how requests were served, by an engine or in a simulation: as JSON, and that in words. Neither serves nor computes
 * more than ratios. */
#ifndef CLI_SERVED_H
#define CLI_SERVED_H

#include "record.h"

#include <eyrie/eyrie_tools.h>

/* The report's keys, which are those of its fields; what is not known is NaN there and null here. */
void cli_served_set(json_t *object, const eyrie_sim_report *report);

/* What the simulation of the same says, as "simulated", and what was measured over it, as "ratios". After cli_served_set. */
void cli_served_set_simulated(json_t *object, const eyrie_sim_report *simulated);

/* An object with these keys and, where it has them, those of cli_search (search.h). */
void cli_served_print(const json_t *object, const cli_out *out);

/* A row of a record that has them, under a title of its own. */
void cli_served_print_row(const json_t *row, const cli_out *out);

#endif
