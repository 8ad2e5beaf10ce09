/* test_profile.c - times of kernels: what plans count of launches agrees with what the model is said to take, nothing
 * is told twice, and engines run as before after it. Not for how long anything takes. */
#include "running.h"

#include <eyrie/eyrie_tools.h>

enum { MOST = 64, TOKENS = 8 };

static eyrie_kernel_time kernels[MOST];
static size_t n;

/* The prompt is read, and as many tokens generated as are told. */
static void generate(eyrie_engine *e, uint64_t tokens)
{
    static const int32_t prompt[] = { 2, 5, 9 };
    eyrie_request r = { .struct_size = sizeof r,
                        .tokens = prompt,
                        .n_tokens = COUNT(prompt),
                        .max_tokens = tokens,
                        .flags = EYRIE_IGNORE_EOS };
    eyrie_seq *s = open_seq(e);

    assert_ok(eyrie_seq_submit(s, &r, &err));
    for (bool busy = true; busy;) assert_ok(eyrie_engine_step(e, &busy, &err));
    assert_ok(eyrie_seq_close(s));
}

/* Plans count inputs and results of each launch, too, and attention by a full window like the information does; all
 * of that is little beside the weights. What is generated after the prompt's own token takes a step each. */
static void counts_are_those_of_the_model(void **state)
{
    eyrie_model *m = open_model(SHAKESPEARE, (eyrie_model_opts){ .slots = 1 });
    eyrie_engine *e = open_engine(m);
    eyrie_model_info info = { .struct_size = sizeof info };
    eyrie_profile *p;
    double bytes[2] = { 0, 0 }, flops[2] = { 0, 0 }, steps = TOKENS - 1;
    uint64_t launches = 0;

    (void)state;
    assert_ok(eyrie_model_get_info(m, &info, &err));
    assert_ok(eyrie_profile_open(&p, device, &err));
    for (int longer = 0; longer < 2; longer++) {
        generate(e, longer ? TOKENS : 1);
        assert_ok(eyrie_profile_take(p, kernels, MOST, &n, &err));
        assert_in_range(n, 3, MOST);
        for (size_t i = 0; i < n; i++) {
            bytes[longer] += (double)kernels[i].bytes;
            flops[longer] += (double)kernels[i].flops;
            launches += kernels[i].launches;
            assert_true(kernels[i].name[0] && kernels[i].seconds >= 0 && kernels[i].seconds < 600);
            if (i > 0) assert_true(kernels[i].seconds <= kernels[i - 1].seconds);
            for (size_t k = 0; k < i; k++) assert_string_not_equal(kernels[i].name, kernels[k].name);
        }
    }
    assert_in_range(launches, (TOKENS + 1) * info.layers, (TOKENS + 1) * 20 * info.layers);
    double step = (bytes[1] - bytes[0]) / steps, of_flops = (flops[1] - flops[0]) / steps;
    if (!(step >= 0.95 * (double)info.decode_bytes && step <= 1.25 * (double)info.decode_bytes))
        fail_msg("%g bytes a step, %g were said", step, (double)info.decode_bytes);
    if (!(of_flops >= 0.95 * (double)info.decode_flops && of_flops <= 1.1 * (double)info.decode_flops))
        fail_msg("%g FLOPs a step, %g were said", of_flops, (double)info.decode_flops);

    assert_ok(eyrie_profile_take(p, kernels, MOST, &n, &err));      /* nothing since */
    assert_int_equal(n, 0);
    generate(e, 1);
    assert_ok(eyrie_profile_take(p, kernels, 1, &n, &err));         /* one of many */
    assert_true(n > 1);
    generate(e, 1);                                                 /* which is never taken */
    eyrie_profile_close(p);
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
}

static void once_at_a_time(void **state)
{
    char path[4096];
    eyrie_engine_opts traced = { .struct_size = sizeof traced, .trace = path };
    eyrie_model *m = open_model(SHAKESPEARE, (eyrie_model_opts){ .slots = 1 });
    eyrie_engine *e;
    eyrie_profile *p, *other;

    snprintf(path, sizeof path, "%s", path_of(*state, "trace"));
    assert_ok(eyrie_profile_open(&p, device, &err));
    assert_fails(eyrie_profile_open(&other, device, &err), EYRIE_EBUSY, "already");
    assert_null(other);
    assert_fails(eyrie_engine_open(&e, m, &traced, &err), EYRIE_EBUSY, "already");
    eyrie_profile_close(p);
    eyrie_profile_close(NULL);
    assert_ok(eyrie_engine_open(&e, m, &traced, &err));
    assert_fails(eyrie_profile_open(&p, device, &err), EYRIE_EBUSY, "already");
    assert_ok(eyrie_engine_close(e));
    assert_ok(eyrie_model_close(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_the_model),
        test_in_dir(once_at_a_time),
    };

    return cmocka_run_group_tests_name("profile", tests, open_device, close_device);
}
