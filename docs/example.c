/* example.c - a prompt to text, in C or in C++: the smallest whole program on libeyrie. */
#include <eyrie/eyrie.h>
#include <stdio.h>

static void print_text(void *user, eyrie_seq *seq, const eyrie_event *event)
{
    (void)user, (void)seq;
    if (event->kind != EYRIE_EVENT_SCORE) fwrite(event->text, 1, event->text_length, stdout);
}

int main(int argc, char **argv)
{
    eyrie_device *device = NULL;
    eyrie_model *model = NULL;
    eyrie_engine *engine = NULL;
    eyrie_seq *seq = NULL;
    eyrie_request request = { sizeof request };
    eyrie_error err;
    int32_t ids[64];
    size_t n = 0;
    bool busy = true;

    bool ok = argc > 1 && eyrie_device_open(&device, NULL, &err) == EYRIE_OK
              && eyrie_model_open(&model, device, argv[1], NULL, &err) == EYRIE_OK
              && eyrie_engine_open(&engine, model, NULL, &err) == EYRIE_OK && eyrie_seq_open(&seq, engine, &err) == EYRIE_OK
              && eyrie_encode(model, "ROMEO:\n", 7, ids, 64, &n, &err) == EYRIE_OK;
    request.tokens = ids;
    request.n_tokens = n;
    request.max_tokens = 50;
    request.on_event = print_text;
    ok = ok && eyrie_seq_submit(seq, &request, &err) == EYRIE_OK;
    while (ok && busy) ok = eyrie_engine_step(engine, &busy, &err) == EYRIE_OK;
    if (!ok) fprintf(stderr, "%s\n", argc > 1 ? err.text : "usage: example MODEL");

    eyrie_seq_close(seq);
    eyrie_engine_close(engine);
    eyrie_model_close(model);
    eyrie_device_close(device);
    return ok ? 0 : 1;
}
