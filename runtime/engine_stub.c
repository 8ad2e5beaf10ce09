#include "model.h"
bool ey_model_ready(eyrie_model *m, ey_phase phase) { (void)m, (void)phase; return false; }
eyrie_status ey_model_wait(eyrie_model *m, ey_phase phase, eyrie_error *err) { (void)phase; return ey_device_finish(ey_model_device(m), err); }
eyrie_status ey_model_move_slot(eyrie_model *from, uint32_t slot, eyrie_model *to, uint32_t to_slot, uint64_t position, eyrie_error *err)
{ (void)from, (void)slot, (void)to, (void)to_slot, (void)position; return ey_fail(err, EYRIE_EINVAL, "stub"); }
