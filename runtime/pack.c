/* pack.c - a checkpoint written once more, in the order in which devices read it. */
#include "model_parts.h"
#include "os.h"
#include "synthetic.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static eyrie_status copy_file(const char *from, const char *to, const char *name, eyrie_error *err)
{
    char *source = ey_path(from, name), *target = ey_path(to, name);
    ey_output *o = NULL;
    ey_map map = { 0 };
    eyrie_status st;

    if (!source || !target) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s", name);
        goto done;
    }
    if (!ey_file_exists(source)) goto none;
    EY_TRY(ey_map_open(&map, source, err));
    EY_TRY(ey_output_open(&o, target, err));
    if ((st = ey_output_write(o, map.data, map.size, err)) != EYRIE_OK) (void)ey_output_close(o, false, NULL);
    else st = ey_output_close(o, true, err);
    goto done;
none:
    st = EYRIE_OK;
done:
    ey_map_close(&map);
    ey_free(source);
    ey_free(target);
    return st;
}

static const char *const packed_files[] = { "config.json", "tokenizer.model", "model.safetensors" };
enum { PACKED_FILES = sizeof packed_files / sizeof *packed_files };

/* The files of the new checkpoint, in a directory that is there. */
static eyrie_status write_checkpoint(eyrie_model *m, const char *path, const char *directory, eyrie_error *err)
{
    char *name = ey_path(directory, packed_files[PACKED_FILES - 1]);
    ey_output *o = NULL;
    eyrie_status st;

    if (!name) return ey_fail(err, EYRIE_ENOMEM, "%s", directory);
    for (size_t i = 0; i + 1 < PACKED_FILES; i++) EY_TRY(copy_file(path, directory, packed_files[i], err));
    EY_TRY(ey_output_open(&o, name, err));
    if ((st = ey_weights_write(m->weights, o, m->identity, err)) != EYRIE_OK) (void)ey_output_close(o, false, NULL);
    else st = ey_output_close(o, true, err);
done:
    ey_free(name);
    return st;
}

static void remove_checkpoint(const char *directory)
{
    for (size_t i = 0; i < PACKED_FILES; i++) {
        char *name = ey_path(directory, packed_files[i]);
        if (name) (void)remove(name);
        ey_free(name);
    }
    (void)remove(directory);
}

/* Written beside its place, and moved there whole. */
static eyrie_status write_directory(eyrie_model *m, const char *path, const char *directory, eyrie_error *err)
{
    char beside[4096], reason[128];
    int n = snprintf(beside, sizeof beside, "%s.new-%" PRIu64, directory, ey_process_id());
    eyrie_status st;

    if (n < 0 || (size_t)n >= sizeof beside) return ey_fail(err, EYRIE_EINVAL, "%.100s...: too long for a path", directory);
    if (ey_file_exists(directory))
        return ey_fail(err, EYRIE_EINVAL, "%s: is there already; name a directory that is not, or remove it first", directory);
    EY_TRY(ey_dir_make(beside, err));
    st = write_checkpoint(m, path, beside, err);
    if (st == EYRIE_OK && rename(beside, directory) != 0)
        st = ey_fail(err, EYRIE_EIO, "cannot move %s to %s: %s", beside, directory, ey_reason(errno, reason));
    if (st != EYRIE_OK) remove_checkpoint(beside);
done:
    return st;
}

eyrie_status eyrie_pack(const char *path, const char *directory, const eyrie_model_opts *opts, eyrie_error *err)
{
    eyrie_device nowhere = { .max_alloc = UINT64_MAX };
    eyrie_model *m = NULL;
    ey_progress progress;
    char *place = ey_strdup(directory);
    eyrie_status st;

    if (!place) return ey_fail(err, EYRIE_ENOMEM, "%s", directory);
    for (size_t n = strlen(place); n > 1 && place[n - 1] == '/'; ) place[--n] = '\0';
    if (!*place || ey_is_synthetic(path)) {
        st = ey_fail(err, EYRIE_EINVAL, *place ? "%s: has no files to pack" : "%s: to be packed into a directory without a name", path);
        goto done;
    }
    EY_TRY(ey_model_declare(&m, &nowhere, path, opts, err));
    progress = (ey_progress){ m->opts.progress, m->opts.progress_user };
    ey_weights_listener(m->weights, &progress);
    EY_TRY(ey_model_identify(m, err));
    st = write_directory(m, path, place, err);
done:
    ey_model_free(m);
    ey_free(place);
    return st;
}
