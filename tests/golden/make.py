#!/usr/bin/env python3
"""Makes the golden checkpoints beside this file: small random models with the logits that an independent NumPy
implementation, oracle.py, gives for them. What each is for is in README.md.

    make.py [ORACLE.py]        needs numpy; ORACLE.py defaults to the one beside this file

Weights come out the same on every machine; logits may differ in their last digits with the BLAS in use."""
import importlib.util, json, os, shutil, sys

HERE = os.path.dirname(os.path.abspath(__file__))
R, A = "recurrent", "attention"
SMALL = dict(hidden_size=64, intermediate_size=128, vocab_size=64)
STEPS = 24                                                  # greedy tokens after the text

# Random weights as the oracle makes them let the embedding drown the layers: greedy text would repeat one token.
LIVELY = {"embed_tokens.weight": lambda x: x * 0.1, "final_norm.weight": lambda x: x + 9}

# Preset of the oracle, number format, files, tokens, seed, settings, and what is done to tensors by the end of their
# name. The seeds are those for which every greedy choice is a clear one.
GOLDENS = {
    "hawk": dict(preset="hawk-tiny", dtype="BF16", tokens=200, seed=8, config=dict(
        hidden_size=48, lru_width=48, intermediate_size=96, num_hidden_layers=12, vocab_size=80)),
    "hawk-narrow": dict(preset="hawk-tiny", tokens=100, seed=17, config=dict(
        SMALL, lru_width=40, rg_lru_blocks=4, conv1d_width=3, num_hidden_layers=1, vocab_size=72,
        logits_soft_cap=30.0)),
    "hawk-odd": dict(preset="hawk-odd", dtype="F16", tokens=150, seed=15, change={
        "recurrent_param": lambda x: x - 9}),               # a = exp(-8 r softplus(p)) close to 1
    "griffin": dict(preset="griffin-tiny", dtype="BF16", shards=3, tokens=450, seed=14, config=dict(
        SMALL, attention_window_size=64)),
    "griffin-odd": dict(preset="griffin-odd", tokens=40, seed=24),
    "griffin-wide": dict(preset="griffin-wide", dtype="BF16", tokens=450, seed=17, config=dict(
        intermediate_size=192, num_hidden_layers=3, attention_window_size=63, vocab_size=48)),
    "griffin-untied": dict(preset="griffin-tiny", dtype="F16", shards=3, tokens=150, seed=13, config=dict(
        SMALL, num_attention_heads=8, num_key_value_heads=4, num_hidden_layers=4, attention_window_size=5,
        logits_soft_cap=8.0, tie_word_embeddings=False), change={
        "lm_head.weight": lambda x: x * 0.3}),
    "mqa": dict(preset="mqa-tiny", dtype="F16", tokens=200, seed=13, config=dict(SMALL, num_hidden_layers=3)),
    "mqa-odd": dict(preset="mqa-odd", tokens=70, seed=22, config=dict(attention_window_size=None)),
    "gqa": dict(preset="gqa-full-rope", tokens=450, seed=6, config=dict(
        SMALL, num_hidden_layers=4, attention_window_size=100, rope_theta=1000.0), change={
        "q_proj.weight": lambda x: x * 4}),                 # scores that single out a few keys
    "mha-spelling": dict(preset="griffin-tiny", dtype="BF16", tokens=300, seed=4, respell=True, config=dict(
        hidden_size=48, lru_width=48, intermediate_size=96, num_hidden_layers=3, vocab_size=64, block_types=[R, A, A],
        num_attention_heads=3, num_key_value_heads=3, attention_window_size=127, logits_soft_cap=0.0,
        rms_norm_eps=1e-3, rope_theta=500.0, partial_rotary_factor=0.25)),
}


def make(oracle, path, preset, tokens, seed, dtype="F32", shards=1, config={}, change={}, respell=False):
    random_tensor, shapes = oracle.random_tensor, oracle.shapes

    def changed_tensor(name, shape, seed):
        x = random_tensor(name, shape, seed)
        for end, f in {**LIVELY, **change}.items():
            x = f(x) if name.endswith(end) else x
        return x

    def shapes_with_head(cfg):
        head = {} if cfg["tie_word_embeddings"] else {"lm_head.weight": (cfg["vocab_size"], cfg["hidden_size"])}
        return {**shapes(cfg), **head}

    shutil.rmtree(path, ignore_errors=True)
    oracle.random_tensor, oracle.shapes = changed_tensor, shapes_with_head
    oracle.generate(path, preset, dtype, seed, shards, config)
    oracle.random_tensor, oracle.shapes = random_tensor, shapes
    if not oracle.check(path, tokens):
        sys.exit(path + ": the oracle disagrees with itself")
    oracle.golden(path, os.path.join(path, "golden.gold"), ntok=tokens, steps=STEPS)
    if respell:
        spell_otherwise(oracle, path, dtype)


def spell_otherwise(oracle, path, dtype):
    """The same model in the words of other exporters, which oracle.py does not read. The tensors added here are to
    be ignored; the head because the model is tied."""
    cfg, w = oracle.load(path)
    cfg["_block_types"] = cfg.pop("block_types")
    cfg["dtype"] = cfg.pop("torch_dtype")
    cfg["rope_parameters"] = dict(rope_type="default", rope_theta=cfg.pop("rope_theta"),
                                  partial_rotary_factor=cfg.pop("partial_rotary_factor"))
    cfg.update(logits_soft_cap=None, num_key_value_heads=None, lru_width=None)
    for key in ("attention_bias", "conv1d_width", "embeddings_scale_by_sqrt_dim", "head_dim", "tie_word_embeddings"):
        del cfg[key]                                        # all of them at their defaults
    for name, shape in (("lm_head.weight", w["model.embed_tokens.weight"].shape), ("model.normalizer", ()),
                        ("model.layers.1.temporal_block.rotary_emb.inv_freq", (4,))):
        w[name] = oracle.random_tensor(name, shape or (1,), 1).reshape(shape)
    json.dump(cfg, open(os.path.join(path, "config.json"), "w"), indent=1, sort_keys=True)
    oracle.write_safetensors(os.path.join(path, "model.safetensors"), {k: x.shape for k, x in w.items()}, w.get, dtype)


def load_oracle(path):
    sys.dont_write_bytecode = True                          # no __pycache__ beside it
    spec = importlib.util.spec_from_file_location("oracle", path)
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    return oracle


if __name__ == "__main__":
    oracle = load_oracle(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "oracle.py"))
    for name, how in GOLDENS.items():
        make(oracle, os.path.join(HERE, name), **how)
