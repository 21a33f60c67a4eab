"""Tiny random models and a tiny real tokenizer: made in milliseconds, nothing downloaded."""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from glp_core.llm.model import Llm
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig

WIDTH, LAYERS, VOCABULARY = 32, 4, 320
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [
    "The cat sat on the mat and looked at the rain.",
    "A model of the mind is not the mind, but it may be useful.",
    "She said that the film was wonderful, and he said that it was dull.",
]
COMMON = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
GATED = COMMON | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 256}
RECURRENT = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "state_size": 8}
MAMBA = {"mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SIZES = {
    "llama": GATED,
    "qwen2": GATED,
    "qwen3": GATED | {"head_dim": 8},
    "gemma": GATED | {"head_dim": 8},
    "gemma2": GATED | {"head_dim": 8},
    "gpt_neox": COMMON | {"intermediate_size": 48, "max_position_embeddings": 256},
    "opt": COMMON | {"ffn_dim": 48, "word_embed_proj_dim": WIDTH, "max_position_embeddings": 256},
    "opt_350m": COMMON
    | {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False, "max_position_embeddings": 256},
    "mpt": {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 256},
    "lfm2": GATED | {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 8},
    "gemma3_text": GATED | {"head_dim": 8, "sliding_window": 16},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 256},
    "falcon_h1": GATED | MAMBA | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_expand": 1},
}
MAMBA_OF_GRANITE = MAMBA | {"mamba_n_heads": 8, "shared_intermediate_size": 16, "layer_types": ["mamba", "attention"] * 2}
DELTA_RULE = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
SIGHT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
OTHERS = {
    "gemma3": {"text_config": SIZES["gemma3_text"], "vision_config": SIGHT | {"image_size": 28, "patch_size": 14}}
    | {"mm_tokens_per_image": 4, "boi_token_index": 3, "eoi_token_index": 4, "image_token_index": 5},
    "mamba": RECURRENT,
    "falcon_mamba": RECURRENT,
    "mamba2": RECURRENT | {"head_dim": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 8},
    "mixtral": GATED | EXPERTS,
    "gpt_oss": GATED
    | EXPERTS
    | {"head_dim": 8, "sliding_window": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "granitemoehybrid": GATED | EXPERTS | MAMBA_OF_GRANITE,
    "qwen3_next": GATED
    | DELTA_RULE
    | SMALL_EXPERTS
    | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"] * 2},
    "xlstm": {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_heads": 4},
}
"""Families that see pictures too (Gemma 3), that number their hidden states otherwise (Mamba), whose experts see all rows at once, so
that rows are independent up to rounding only, or that are refused (xLSTM)."""


def tiny_model(kind="llama", seed=0):
    """Return a random causal language model of that family, float32."""
    specials = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = (SIZES | OTHERS)[kind]
    sizes |= {"text_config": sizes["text_config"] | specials} if "text_config" in sizes else {}
    config = AutoConfig.for_model(kind.partition("_350m")[0], **sizes, **specials)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for weight in model.parameters():  # larger than the usual start, so that layers differ visibly
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.15)
    return model


def tiny_tokenizer():
    """Return a byte-level BPE tokenizer with a first token, two stop tokens and a chat template, as the demo LLM has."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[0])
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_glp(width=WIDTH, seed=0, n_layers=2):
    """Return a random GLP laid out for inference."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mean, var = torch.randn(width), 0.5 + torch.rand(width)
        return GLP(DenoiserConfig(width, 48, 64, n_layers), mean, var).prepare()


def make_tiny_llm(kind="llama", seed=0):
    """Return a tiny model with the tiny tokenizer."""
    return Llm(tiny_model(kind, seed), tiny_tokenizer(), f"tiny {kind}")


def keep_llm(folder, kind="llama"):
    """Write a tiny model with the tiny tokenizer in a folder, as transformers keeps them."""
    tiny_model(kind).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def stepwise_logits(model, ids):
    """Logits after each of the last two tokens, fed one by one."""
    first = model(input_ids=ids[:, :-2], use_cache=True)
    cache = {name: first[name] for name in ("past_key_values", "cache_params") if name in first}
    logits = []
    for place in (-2, -1):
        out = model(input_ids=ids[:, place : place + 1 or None], use_cache=True, **cache)
        logits.append(out.logits[:, -1])
    return torch.stack(logits)
