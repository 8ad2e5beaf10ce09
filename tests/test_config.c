/* test_config.c - config.json: the spellings in use, and one clear line for each thing that can be wrong with it. */
#include "testing.h"

#include <jansson.h>

#include "config.h"

/* What every config must say, and no more: D 32, H 4, d 8, M 60, L 5, V 100. */
static const char minimal[] =
    "{\"model_type\":\"recurrent_gemma\",\"vocab_size\":100,\"hidden_size\":32,\"intermediate_size\":120,"
    "\"num_hidden_layers\":5,\"num_attention_heads\":4}";

/* The minimal config with the members of `changes` put in; the string "absent" takes a key out. Release with free. */
static char *changed(const char *changes)
{
    json_t     *config = json_loads(minimal, 0, NULL), *patch = json_loads(changes, 0, NULL), *value;
    const char *key;
    char       *text;

    if (!patch) fail_msg("the test's own JSON is wrong: %s", changes);
    json_object_foreach(patch, key, value) {
        if (json_is_string(value) && strcmp(json_string_value(value), "absent") == 0) json_object_del(config, key);
        else json_object_set(config, key, value);
    }
    text = json_dumps(config, 0);
    assert_non_null(text);
    json_decref(config);
    json_decref(patch);
    return text;
}

static void parse(ey_config *c, const char *changes)
{
    eyrie_error err;
    char       *text = changed(changes);

    if (ey_config_parse(c, text, strlen(text), "config.json", &err) != EYRIE_OK) fail_msg("%s: %s", changes, err.text);
    free(text);
}

static void expect_failure(const char *text, size_t length, const char *fragment)
{
    ey_config    c;
    eyrie_error  err = { EYRIE_OK, 1, "" };
    eyrie_status st = ey_config_parse(&c, text, length, "config.json", &err);

    if (st != EYRIE_EFORMAT || !strstr(err.text, fragment) || strncmp(err.text, "config.json: ", 13) != 0) {
        fail_msg("%s\nstatus %d, message \"%s\"; wanted \"%s\"", text, (int)st, err.text, fragment);
    }
    assert_int_equal(err.status, EYRIE_EFORMAT);
    assert_int_equal(err.cl_code, 0);
    assert_null(strchr(err.text, '\n'));
}

static void test_defaults(void **state)
{
    static const ey_kind kinds[] = { EY_RECURRENT, EY_RECURRENT, EY_ATTENTION, EY_RECURRENT, EY_RECURRENT };
    ey_config c;

    (void)state;
    parse(&c, "{}");
    assert_int_equal(c.vocab, 100);
    assert_int_equal(c.width, 32);
    assert_int_equal(c.layers, 5);
    assert_int_equal(c.heads, 4);
    assert_int_equal(c.kv_heads, 4);
    assert_int_equal(c.head_dim, 8);
    assert_int_equal(c.rotary, 4);
    assert_int_equal(c.lru_width, 32);
    assert_int_equal(c.mlp_width, 60);
    assert_int_equal(c.conv_taps, 4);
    assert_int_equal(c.window, 2048);
    assert_true(c.cap == 30);
    assert_true(c.eps == 1e-6f);
    assert_true(c.rope_theta == 10000);
    assert_true(c.embed_scale == 5.65625f);   /* sqrt(32) = 5.65685; bfloat16 has 5.65625 and 5.6875 */
    assert_false(c.attention_bias);
    assert_true(c.tied);
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.n_eos, 0);
    assert_memory_equal(c.kinds, kinds, sizeof kinds);
    assert_int_equal(ey_config_count(&c, EY_RECURRENT), 4);
    assert_int_equal(ey_config_count(&c, EY_ATTENTION), 1);
}

/* The released models, as their files spell them. */
static void test_recurrentgemma(void **state)
{
    static const char two[] =
        "{\"architectures\":[\"RecurrentGemmaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
        "\"attention_window_size\":2048,\"bos_token_id\":2,\"conv1d_width\":4,\"embeddings_scale_by_sqrt_dim\":true,"
        "\"eos_token_id\":1,\"final_w_init_variance_scale\":0.07692307692307693,\"head_dim\":256,"
        "\"hidden_activation\":\"gelu_pytorch_tanh\",\"hidden_size\":2560,\"intermediate_size\":15360,"
        "\"logits_soft_cap\":30.0,\"lru_width\":2560,\"model_type\":\"recurrent_gemma\",\"num_attention_heads\":10,"
        "\"num_hidden_layers\":26,\"num_key_value_heads\":1,\"pad_token_id\":0,\"partial_rotary_factor\":0.5,"
        "\"rms_norm_eps\":1e-06,\"rope_theta\":10000.0,\"torch_dtype\":\"bfloat16\",\"use_cache\":true,"
        "\"vocab_size\":256000,\"w_init_variance_scale\":0.01,"
        "\"_block_types\":[\"recurrent\",\"recurrent\",\"attention\"]}";
    static const char nine[] =   /* with the rotary embedding nested, as newer exports do */
        "{\"architectures\":[\"RecurrentGemmaForCausalLM\"],\"attention_bias\":false,\"attention_window_size\":2048,"
        "\"block_types\":[\"recurrent\",\"recurrent\",\"attention\"],\"bos_token_id\":2,\"conv1d_width\":4,"
        "\"dtype\":\"bfloat16\",\"eos_token_id\":[1,107],\"head_dim\":256,\"hidden_activation\":\"gelu_pytorch_tanh\","
        "\"hidden_size\":4096,\"intermediate_size\":24576,\"logits_soft_cap\":30.0,\"lru_width\":null,"
        "\"model_type\":\"recurrent_gemma\",\"num_attention_heads\":16,\"num_hidden_layers\":38,"
        "\"num_key_value_heads\":1,\"rms_norm_eps\":1e-06,\"rope_parameters\":{\"partial_rotary_factor\":0.5,"
        "\"rope_theta\":10000.0,\"rope_type\":\"default\"},\"rope_scaling\":null,\"tie_word_embeddings\":true,"
        "\"vocab_size\":256000}";
    eyrie_error err;
    ey_config   c;

    (void)state;
    assert_int_equal(ey_config_parse(&c, two, strlen(two), "config.json", &err), EYRIE_OK);
    assert_int_equal(c.vocab, 256000);
    assert_int_equal(c.width, 2560);
    assert_int_equal(c.layers, 26);
    assert_int_equal(c.heads, 10);
    assert_int_equal(c.kv_heads, 1);
    assert_int_equal(c.head_dim, 256);
    assert_int_equal(c.rotary, 128);
    assert_int_equal(c.lru_width, 2560);
    assert_int_equal(c.mlp_width, 7680);
    assert_true(c.embed_scale == 50.5f);
    assert_int_equal(c.bos, 2);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 1);
    assert_int_equal(ey_config_count(&c, EY_RECURRENT), 18);
    assert_int_equal(ey_config_count(&c, EY_ATTENTION), 8);
    for (size_t i = 0; i < 26; i++) assert_int_equal(c.kinds[i], i % 3 == 2 ? EY_ATTENTION : EY_RECURRENT);

    assert_int_equal(ey_config_parse(&c, nine, strlen(nine), "config.json", &err), EYRIE_OK);
    assert_int_equal(c.layers, 38);
    assert_int_equal(c.lru_width, 4096);
    assert_int_equal(c.mlp_width, 12288);
    assert_int_equal(c.rotary, 128);
    assert_true(c.embed_scale == 64);
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.eos[1], 107);
    assert_int_equal(ey_config_count(&c, EY_ATTENTION), 12);
}

/* Changes to the minimal config, and the one number that they lead to. */
static void test_variants(void **state)
{
    static ey_config c;
    static const struct {
        const char     *changes;
        const uint32_t *at;
        uint32_t        value;
    } sizes[] = {
        { "{\"hidden_size\":48.0}", &c.width, 48 },
        { "{\"lru_width\":null}", &c.lru_width, 32 },
        { "{\"lru_width\":56}", &c.lru_width, 56 },
        { "{\"num_key_value_heads\":null}", &c.kv_heads, 4 },
        { "{\"num_key_value_heads\":2}", &c.kv_heads, 2 },
        { "{\"head_dim\":null}", &c.head_dim, 8 },
        { "{\"vocab_size\":16777216}", &c.vocab, 16777216 },
        { "{\"conv1d_width\":64}", &c.conv_taps, 64 },
        { "{\"conv1d_width\":1}", &c.conv_taps, 1 },
        { "{\"num_hidden_layers\":1024}", &c.layers, 1024 },
        { "{\"partial_rotary_factor\":1}", &c.rotary, 8 },
        { "{\"partial_rotary_factor\":0.0}", &c.rotary, 0 },
        { "{\"partial_rotary_factor\":0.3}", &c.rotary, 2 },
        { "{\"partial_rotary_factor\":null}", &c.rotary, 4 },
        { "{\"rope_parameters\":{\"partial_rotary_factor\":0.75}}", &c.rotary, 6 },
        { "{\"partial_rotary_factor\":0.75,\"rope_parameters\":{\"partial_rotary_factor\":0.75}}", &c.rotary, 6 },
        { "{\"partial_rotary_factor\":0.4,\"block_types\":[\"recurrent\"]}", &c.rotary, 0 },   /* 3 would be odd */
    };
    static const struct {
        const char  *changes;
        const float *at;
        double       value;
    } numbers[] = {
        { "{\"logits_soft_cap\":null}", &c.cap, 0 },
        { "{\"logits_soft_cap\":0}", &c.cap, 0 },
        { "{\"logits_soft_cap\":12.5}", &c.cap, 12.5 },
        { "{\"rms_norm_eps\":null}", &c.eps, 1e-6f },
        { "{\"rms_norm_eps\":0.125}", &c.eps, 0.125 },
        { "{\"embeddings_scale_by_sqrt_dim\":false}", &c.embed_scale, 1 },
        { "{\"hidden_size\":2048}", &c.embed_scale, 45.25 },
        { "{\"hidden_size\":3072}", &c.embed_scale, 55.5 },
        { "{\"hidden_size\":256}", &c.embed_scale, 16 },
    };
    static const struct {
        const char *changes;
        uint64_t    window;
    } windows[] = {
        { "{\"attention_window_size\":null}", 0 },
        { "{\"attention_window_size\":0}", 0 },
        { "{\"attention_window_size\":1}", 1 },
        { "{\"attention_window_size\":1073741824}", 1073741824 },
    };
    static const struct {
        const char *changes;
        double      theta;
    } thetas[] = {
        { "{\"rope_theta\":1000000}", 1000000 },
        { "{\"rope_parameters\":{\"rope_theta\":500.5}}", 500.5 },
        { "{\"rope_theta\":500.5,\"rope_parameters\":{\"rope_theta\":500.5}}", 500.5 },
        { "{\"rope_theta\":500.5,\"rope_parameters\":{\"rope_type\":\"default\"}}", 500.5 },
        { "{\"rope_theta\":null,\"rope_parameters\":null}", 10000 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        parse(&c, sizes[i].changes);
        if (*sizes[i].at != sizes[i].value) fail_msg("%s: %u", sizes[i].changes, *sizes[i].at);
    }
    for (size_t i = 0; i < COUNT(numbers); i++) {
        parse(&c, numbers[i].changes);
        if (*numbers[i].at != numbers[i].value) fail_msg("%s: %g", numbers[i].changes, (double)*numbers[i].at);
    }
    for (size_t i = 0; i < COUNT(windows); i++) {
        parse(&c, windows[i].changes);
        assert_int_equal(c.window, windows[i].window);
    }
    for (size_t i = 0; i < COUNT(thetas); i++) {
        parse(&c, thetas[i].changes);
        if (c.rope_theta != thetas[i].theta) fail_msg("%s: %g", thetas[i].changes, c.rope_theta);
    }
    parse(&c, "{\"attention_bias\":true,\"tie_word_embeddings\":false}");
    assert_true(c.attention_bias);
    assert_false(c.tied);
}

static void test_block_types(void **state)
{
    static const struct {
        const char *changes, *kinds;   /* of the 5 layers */
    } cases[] = {
        { "{\"block_types\":[\"attention\"]}", "aaaaa" },
        { "{\"_block_types\":[\"recurrent\"],\"block_types\":null}", "rrrrr" },
        { "{\"_block_types\":[\"attention\",\"recurrent\"],\"block_types\":[\"attention\",\"recurrent\"]}", "arara" },
        { "{\"block_types\":[\"recurrent\",\"attention\",\"attention\",\"recurrent\",\"attention\"]}", "raara" },
        { "{\"block_types\":[\"recurrent\",\"recurrent\",\"attention\",\"recurrent\",\"recurrent\",\"attention\"]}",
          "rrarr" },
    };
    ey_config c;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        parse(&c, cases[i].changes);
        for (size_t j = 0; j < 5; j++) {
            assert_int_equal(c.kinds[j], cases[i].kinds[j] == 'a' ? EY_ATTENTION : EY_RECURRENT);
        }
    }
}

static void test_token_ids(void **state)
{
    ey_config c;

    (void)state;
    parse(&c, "{\"bos_token_id\":null,\"eos_token_id\":null}");
    assert_int_equal(c.bos, -1);
    assert_int_equal(c.n_eos, 0);
    parse(&c, "{\"bos_token_id\":0,\"eos_token_id\":99}");
    assert_int_equal(c.bos, 0);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos[0], 99);
    parse(&c, "{\"eos_token_id\":[]}");
    assert_int_equal(c.n_eos, 0);
    parse(&c, "{\"eos_token_id\":[7,8,7,7,1,2,3,4,5,6,8]}");
    assert_int_equal(c.n_eos, 8);
    assert_int_equal(c.eos[0], 7);
    assert_int_equal(c.eos[1], 8);
    assert_int_equal(c.eos[7], 6);
}

static void test_wrong_values(void **state)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        { "{\"hidden_size\":-5}", "config.json: \"hidden_size\" is -5; it must be an integer from 1 to 1048576" },
        { "{\"hidden_size\":\"absent\"}", "\"hidden_size\" is missing; it must be an integer" },
        { "{\"hidden_size\":null}", "\"hidden_size\" is null; it must be an integer" },
        { "{\"hidden_size\":0}", "\"hidden_size\" is 0; it must be" },
        { "{\"hidden_size\":true}", "\"hidden_size\" is true; it must be" },
        { "{\"hidden_size\":\"40\"}", "\"hidden_size\" is \"40\"; it must be" },
        { "{\"hidden_size\":[40]}", "\"hidden_size\" is [40]; it must be" },
        { "{\"hidden_size\":{\"a\":1}}", "\"hidden_size\" is {\"a\":1}; it must be" },
        { "{\"hidden_size\":40.5}", "\"hidden_size\" is 40.5; it must be" },
        { "{\"hidden_size\":-40.0}", "\"hidden_size\" is -40.0; it must be" },
        { "{\"hidden_size\":1e300}", "\"hidden_size\" is 1e300; it must be" },
        { "{\"hidden_size\":1048580}", "\"hidden_size\" is 1048580; it must be" },
        { "{\"hidden_size\":4294967336}", "\"hidden_size\" is 4294967336; it must be" },   /* 40 in 32 bits */
        { "{\"hidden_size\":42}", "\"hidden_size\" is 42 and \"num_attention_heads\" is 4; the first must be" },
        { "{\"vocab_size\":\"absent\"}", "\"vocab_size\" is missing" },
        { "{\"vocab_size\":16777217}", "\"vocab_size\" is 16777217; it must be an integer from 1 to 16777216" },
        { "{\"num_hidden_layers\":\"absent\"}", "\"num_hidden_layers\" is missing" },
        { "{\"num_hidden_layers\":1025}", "\"num_hidden_layers\" is 1025; it must be an integer from 1 to 1024" },
        { "{\"num_attention_heads\":\"absent\"}", "\"num_attention_heads\" is missing" },
        { "{\"num_attention_heads\":0}", "\"num_attention_heads\" is 0" },
        { "{\"num_key_value_heads\":0}", "\"num_key_value_heads\" is 0" },
        { "{\"num_key_value_heads\":3}", "\"num_attention_heads\" is 4 and \"num_key_value_heads\" is 3" },
        { "{\"num_key_value_heads\":8}", "\"num_attention_heads\" is 4 and \"num_key_value_heads\" is 8" },
        { "{\"head_dim\":11}", "\"head_dim\" is 11; it must be 8, \"hidden_size\" 32 / \"num_attention_heads\" 4" },
        { "{\"intermediate_size\":\"absent\"}", "\"intermediate_size\" is missing" },
        { "{\"intermediate_size\":121}", "\"intermediate_size\" is 121; it must be even" },
        { "{\"intermediate_size\":2097154}", "\"intermediate_size\" is 2097154; it must be an integer from 2" },
        { "{\"lru_width\":0}", "\"lru_width\" is 0" },
        { "{\"conv1d_width\":0}", "\"conv1d_width\" is 0; it must be an integer from 1 to 64" },
        { "{\"conv1d_width\":65}", "\"conv1d_width\" is 65; it must be an integer from 1 to 64" },
        { "{\"attention_window_size\":-1}", "\"attention_window_size\" is -1" },
        { "{\"attention_window_size\":1073741825}", "\"attention_window_size\" is 1073741825" },
        { "{\"logits_soft_cap\":-1}", "\"logits_soft_cap\" is -1; it must be a number from 0" },
        { "{\"logits_soft_cap\":1e200}", "\"logits_soft_cap\" is 1e200" },
        { "{\"logits_soft_cap\":false}", "\"logits_soft_cap\" is false; it must be a number" },
        { "{\"rms_norm_eps\":0}", "\"rms_norm_eps\" is 0; it must be a number" },
        { "{\"rms_norm_eps\":-1e-6}", "\"rms_norm_eps\" is -1" },
        { "{\"rms_norm_eps\":1e-60}", "\"rms_norm_eps\" is 1e-60" },   /* 0 in f32 */
        { "{\"rms_norm_eps\":\"1e-6\"}", "\"rms_norm_eps\" is \"1e-6\"" },
        { "{\"rope_theta\":1}", "\"rope_theta\" is 1; it must be a number" },
        { "{\"rope_theta\":0.0}", "\"rope_theta\" is 0.0" },
        { "{\"rope_theta\":\"10000\"}", "\"rope_theta\" is \"10000\"" },
        { "{\"partial_rotary_factor\":1.1}", "\"partial_rotary_factor\" is 1.1; it must be a number from 0 to 1" },
        { "{\"partial_rotary_factor\":-0.5}", "\"partial_rotary_factor\" is -0.5" },
        { "{\"partial_rotary_factor\":0.4}", "\"partial_rotary_factor\" 0.4 of a head of 8 rotates 3 dimensions" },
        { "{\"rope_parameters\":7}", "\"rope_parameters\" is 7; it must be an object" },
        { "{\"rope_parameters\":{\"rope_type\":\"yarn\"}}",
          "\"rope_parameters.rope_type\" is \"yarn\"; it must be \"default\"" },
        { "{\"rope_parameters\":{\"rope_type\":3}}", "\"rope_parameters.rope_type\" is 3; it must be \"default\"" },
        { "{\"rope_parameters\":{\"rope_theta\":-1}}", "\"rope_parameters.rope_theta\" is -1" },
        { "{\"rope_theta\":500,\"rope_parameters\":{\"rope_theta\":600}}",
          "\"rope_parameters.rope_theta\" is 600; it must be 500, the same as \"rope_theta\"" },
        { "{\"rope_scaling\":{\"type\":\"linear\"}}", "\"rope_scaling\" is {\"type\":\"linear\"}; it must be null" },
        { "{\"model_type\":\"absent\"}", "\"model_type\" is missing; it must be \"recurrent_gemma\"" },
        { "{\"model_type\":null}", "\"model_type\" is null" },
        { "{\"model_type\":\"llama\"}", "\"model_type\" is \"llama\"; it must be \"recurrent_gemma\"" },
        { "{\"model_type\":[\"recurrent_gemma\"]}", "\"model_type\" is [\"recurrent_gemma\"]" },
        { "{\"hidden_activation\":\"silu\"}", "\"hidden_activation\" is \"silu\"; it must be \"gelu_pytorch_tanh\"" },
        { "{\"block_types\":[]}", "\"block_types\" is []; it must be a list" },
        { "{\"_block_types\":\"recurrent\"}", "\"_block_types\" is \"recurrent\"; it must be a list" },
        { "{\"block_types\":[\"recurrent\",\"mamba\"]}", "\"block_types\"[1] is \"mamba\"; it must be" },
        { "{\"_block_types\":[3]}", "\"_block_types\"[0] is 3; it must be" },
        { "{\"block_types\":[\"attention\"],\"_block_types\":[\"recurrent\"]}",
          "\"block_types\" is [\"attention\"]; it must be the same as \"_block_types\", which is [\"recurrent\"]" },
        { "{\"embeddings_scale_by_sqrt_dim\":1}", "\"embeddings_scale_by_sqrt_dim\" is 1; it must be true or false" },
        { "{\"attention_bias\":\"no\"}", "\"attention_bias\" is \"no\"; it must be true or false" },
        { "{\"tie_word_embeddings\":0.0}", "\"tie_word_embeddings\" is 0.0; it must be true or false" },
        { "{\"bos_token_id\":100}", "\"bos_token_id\" is 100; it must be null or an integer from 0 to 99" },
        { "{\"bos_token_id\":-1}", "\"bos_token_id\" is -1" },
        { "{\"bos_token_id\":[2]}", "\"bos_token_id\" is [2]" },
        { "{\"eos_token_id\":100}", "\"eos_token_id\" is 100; it must be null, an integer from 0 to 99 or a list" },
        { "{\"eos_token_id\":true}", "\"eos_token_id\" is true" },
        { "{\"eos_token_id\":[1,-1]}", "\"eos_token_id\" is [1,-1]" },
        { "{\"eos_token_id\":[1,[2]]}", "\"eos_token_id\" is [1,[2]]" },
        { "{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", "\"eos_token_id\" is [1,2,3,4,5,6,7,8,9]; it must be at most 8" },
        { "{\"hidden_size\":\"a very\\nlong string, longer than any message would want to repeat in full\"}",
          "\"hidden_size\" is \"a very\\nlong string, longer than any message would want to ...; it must be" },
        { "{\"hidden_size\":\"\\u00e4\\u20ac\"}", "\"hidden_size\" is \"\\u00E4\\u20AC\"; it must be" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *text = changed(cases[i].changes);

        expect_failure(text, strlen(text), cases[i].message);
        free(text);
    }
}

static void test_wrong_text(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "", "is empty; it must be a JSON object" },
        { "   ", "malformed JSON" },
        { "hello", "malformed JSON at line 1" },
        { "[1,2]", "is [1,2]; it must be a JSON object" },
        { "7", "is 7; it must be a JSON object" },
        { "{\n\"hidden_size\": 40,\n}", "malformed JSON at line 3" },
        { "{\"hidden_size\":40,\"hidden_size\":48}", "duplicate object key near '\"hidden_size\"'" },
        { "{\"rms_norm_eps\":NaN}", "malformed JSON" },
        { "{\"rms_norm_eps\":1e999}", "malformed JSON" },
        { "{\"hidden_size\":99999999999999999999}", "malformed JSON" },
        { "{} {}", "malformed JSON" },
        { "{\"\xc3\x28\":1}", "malformed JSON" },
    };
    char deep[10001], *text = changed("{}");

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) expect_failure(cases[i].text, strlen(cases[i].text), cases[i].message);
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    expect_failure(deep, sizeof deep - 1, "malformed JSON");
    for (size_t i = 1; i < strlen(text); i++) {   /* cut anywhere, from memory that ends there */
        char *cut = malloc(i);

        assert_non_null(cut);
        memcpy(cut, text, i);
        assert_int_equal(ey_config_parse(&(ey_config){ 0 }, cut, i, "config.json", NULL), EYRIE_EFORMAT);
        free(cut);
    }
    free(text);
}

static void test_directory(void **state)
{
    char       *directory = *state, *text = changed("{\"eos_token_id\":1}");
    eyrie_error err;
    ey_config   c;

    assert_int_equal(ey_config_read(&c, directory, &err), EYRIE_EIO);
    assert_non_null(strstr(err.text, "/config.json: "));

    write_text(directory, "config.json", text);
    free(text);
    assert_int_equal(ey_config_read(&c, directory, &err), EYRIE_OK);
    assert_int_equal(c.n_eos, 1);

    write_text(directory, "generation_config.json", "{\"eos_token_id\":[1,42],\"bos_token_id\":2}");
    assert_int_equal(ey_config_read(&c, directory, &err), EYRIE_OK);
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.eos[0], 1);
    assert_int_equal(c.eos[1], 42);
    assert_int_equal(c.bos, -1);   /* config.json decides */

    write_text(directory, "generation_config.json", "{}");
    assert_int_equal(ey_config_read(&c, directory, &err), EYRIE_OK);
    assert_int_equal(c.n_eos, 1);
    write_text(directory, "generation_config.json", "{\"eos_token_id\":[1,100]}");
    assert_int_equal(ey_config_read(&c, directory, &err), EYRIE_EFORMAT);
    assert_non_null(strstr(err.text, "/generation_config.json: \"eos_token_id\" is [1,100]; it must be"));
    write_text(directory, "generation_config.json", "");
    assert_int_equal(ey_config_read(&c, directory, &err), EYRIE_EFORMAT);
    assert_non_null(strstr(err.text, "/generation_config.json: is empty"));
}

static void test_no_memory(void **state)
{
    char        *directory = *state;
    eyrie_error  err;
    ey_config    c;
    size_t       n = 0;
    eyrie_status st;

    write_text(directory, "config.json", minimal);
    for (; fail_allocation(n), st = ey_config_read(&c, directory, &err), allocation_failed(); n++) {
        assert_int_equal(st, EYRIE_ENOMEM);
        assert_non_null(strstr(err.text, "config.json"));
    }
    assert_int_equal(st, EYRIE_OK);
    assert_int_equal(n, 2);   /* the two paths; the JSON library allocates for itself */
}

static size_t json_allocations_left;

static void *json_allocate(size_t bytes)
{
    return json_allocations_left-- == 0 ? NULL : malloc(bytes);
}

/* The same for the allocations of the JSON library. It says of most that memory ran out, but takes some for bad syntax,
 * and where it cannot lengthen a string it goes on with a shorter one: what matters here is that nothing leaks. */
static void test_no_memory_for_json(void **state)
{
    char  *text = changed("{\"block_types\":[\"recurrent\"],\"rope_parameters\":{\"rope_theta\":500.5}}");
    size_t n = 0, reported = 0;

    (void)state;
    json_set_alloc_funcs(json_allocate, free);
    for (;; n++) {
        ey_config    c;
        eyrie_error  err;
        eyrie_status st;

        json_allocations_left = n;
        st = ey_config_parse(&c, text, strlen(text), "config.json", &err);
        assert_true(st == EYRIE_OK || st == EYRIE_ENOMEM || st == EYRIE_EFORMAT);
        assert_true(st == EYRIE_OK || err.status == st);
        reported += st == EYRIE_ENOMEM;
        if (json_allocations_left < SIZE_MAX / 2) break;   /* it did not come to the one that fails */
    }
    json_set_alloc_funcs(malloc, free);
    free(text);
    assert_true(reported > n / 2 && n > 10);
}

static void test_real_checkpoint(void **state)
{
    eyrie_error err;
    ey_config   c;

    (void)state;
    assert_int_equal(ey_config_read(&c, EY_SOURCE_DIR "/models/shakespeare", &err), EYRIE_OK);
    assert_int_equal(c.layers, 6);
    assert_int_equal(c.width, 192);
    assert_int_equal(c.mlp_width, 576);
    assert_int_equal(c.window, 128);
    assert_int_equal(ey_config_count(&c, EY_ATTENTION), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_recurrentgemma), cmocka_unit_test(test_variants),
        cmocka_unit_test(test_block_types),  cmocka_unit_test(test_token_ids),      cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_wrong_text),   test_in_dir(test_directory),           test_in_dir(test_no_memory),
        cmocka_unit_test(test_no_memory_for_json), cmocka_unit_test(test_real_checkpoint),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
