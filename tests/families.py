"""Families of models, tiny and random: the six that most tests use, and whatever transformers ships as a causal LM.

The first ones are written out. Of the others a configuration is made by its own class, every size in it replaced by a
small one, so that the list follows the transformers that is installed; what that cannot make is mended in ``SETTINGS``.
"""

import warnings
from dataclasses import dataclass

import torch
import transformers
from transformers.models.auto import modeling_auto

from completions_lp.model import wrap_model
from completions_lp.model.anatomy import check_anatomy
from completions_lp.model.engine import compare_engines
from completions_lp.records import InputError

COMMON = {"vocab_size": 320, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**COMMON, **LLAMA),
    "gpt2": lambda: transformers.GPT2Config(**COMMON, n_embd=32, n_layer=3, n_head=4, n_positions=128),
    "neox": lambda: transformers.GPTNeoXConfig(
        **COMMON, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4
    ),
    "qwen2": lambda: transformers.Qwen2Config(**COMMON, **LLAMA),
    "gemma2": lambda: transformers.Gemma2Config(**COMMON, **LLAMA, head_dim=8, sliding_window=6),
    "mistral": lambda: transformers.MistralConfig(**COMMON, **LLAMA, sliding_window=6),
}
ARCHITECTURES = sorted(CONFIGS)

_SIZES = {
    2: "num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k "
    "top_k_experts swa_num_key_value_heads linear_num_key_heads",
    4: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_attention_heads n_head n_heads "
    "num_heads decoder_attention_heads num_local_experts num_experts n_routed_experts moe_num_experts "
    "swa_num_attention_heads linear_num_value_heads mamba_n_heads mamba_num_heads linear_num_heads",
    6: "sliding_window attention_window_size window_size sliding_window_size attention_chunk_size local_attention",
    8: "head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim rotary_dim swa_head_dim swa_v_head_dim mamba_head_dim "
    "mamba_d_head linear_key_head_dim linear_value_head_dim mamba_d_state ssm_state_size state_size kv_channels "
    "qk_head_dim linear_head_dim",
    16: "q_lora_rank kv_lora_rank hidden_size_per_layer_input time_step_rank mamba_dt_rank chunk_size "
    "mamba_chunk_size laurel_rank dim_model_base o_lora_rank",
    32: "hidden_size n_embd d_model embed_dim model_dim dim word_embed_proj_dim lru_width",
    64: "intermediate_size ffn_dim n_inner ffn_hidden_size d_ff decoder_ffn_dim encoder_ffn_dim moe_intermediate_size "
    "expert_ffn_hidden_size intermediate_size_mlp mamba_d_ssm shared_intermediate_size dense_intermediate_size "
    "shared_expert_intermediate_size block_ff_dim attention_hidden_size",
    320: "vocab_size vocab_size_per_layer_input",
    512: "max_position_embeddings n_positions max_seq_len n_ctx max_sequence_length seq_length",
    1: "n_shared_experts moe_num_shared_experts num_shared_experts n_group topk_group first_k_dense_replace "
    "mamba_n_groups n_groups",
}
SIZES = {name: size for size, names in _SIZES.items() for name in names.split()}

_LATENT = {"num_key_value_heads": 4}
_HALF_LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
_PLAIN_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SETTINGS = {
    **dict.fromkeys(
        ["axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "minicpm3", "youtu"],
        _LATENT,
    ),
    "bailing_hybrid": {**_LATENT, **_HALF_LINEAR},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1, 3]},
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "gemma3": {"vision_config": {**_VISION, "image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 4},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"] * 2,
                     "activation_sparsity_pattern": [0.0] * 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, **_HALF_LINEAR},
    "hunyuan_v1_dense": {"head_dim": 8, **_PLAIN_ROPE},
    "hunyuan_v1_moe": {"head_dim": 8, **_PLAIN_ROPE},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {**_LATENT, **_HALF_LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "ministral": {"head_dim": 8, **_PLAIN_ROPE},
    "modernbert-decoder": {"cls_token_id": 0, "sep_token_id": 0},
    "nemotron": {"head_dim": 8},
    "opt": {"word_embed_proj_dim": 16},
    **{
        name: {"text_config": {"rope_parameters": _PLAIN_ROPE["rope_parameters"] | {"mrope_section": [1, 1, 2]}}}
        for name in ("glm46v", "glm4v", "glm4v_moe", "glm_ocr", "glmga", "paddleocr_vl", "qwen2_5_vl", "qwen2_vl")
    },
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "rwkv": {"attention_hidden_size": 32},
    "zamba": {"num_hidden_layers": 8},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What a family needs besides small sizes: to be made at all, or to have all its kinds of layers in four."""

CORE = (
    *("bloom", "cohere", "falcon", "falcon_h1", "gemma3", "gemma3_text", "gpt_neo", "gpt_oss", "gptj", "granite"),
    *("llama4_text", "mamba", "mixtral", "mpt", "olmo2", "opt", "phi", "phi3", "qwen3", "qwen3_moe", "qwen3_next"),
    *("smollm3", "stablelm", "bert", "mllama", "qwen2_5_vl"),
)
"""Families that are tried each time, beside the six; all others with ``FULL=1``."""

LARGEST = 20_000_000
"""Weights; what is larger was not made small."""


def make_module(architecture, *, dtype=torch.float32, scale=8.0, **changes):
    """A random model of one of the six, whose weights are large enough that it has opinions."""
    config = CONFIGS[architecture]()
    for name, value in changes.items():
        setattr(config, name, value)
    return _draw(config, transformers.AutoModelForCausalLM, scale).to(dtype).eval()


def list_families():
    """Names of configurations of whatever transformers calls a causal LM, with or without pictures."""
    pictures = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return sorted({*modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *pictures})


def make_family(family, *, dtype=torch.float32, scale=4.0, **changes):
    """A random model of any family."""
    config = make_config(family, **changes)
    causal = type(config) in transformers.AutoModelForCausalLM._model_mapping
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForImageTextToText
    with torch.device("meta"):
        n = sum(parameter.numel() for parameter in auto.from_config(config).parameters())
    if n > LARGEST:
        raise MemoryError(f"{n} weights")
    return _draw(config, auto, scale).to(dtype).eval()


def make_config(family, **changes):
    """The configuration of a family with small sizes, of the text model within it too."""
    kind = transformers.CONFIG_MAPPING[family]
    default = kind()
    settings = _shrink(default)
    for name in getattr(kind, "sub_configs", None) or {}:
        part = vars(default).get(name)
        if part is not None:
            settings[name] = _shrink(part) | (_VISION_SMALL if "vision" in name else {})
    for name, value in (SETTINGS.get(family, {}) | changes).items():
        settings[name] = settings[name] | value if isinstance(settings.get(name), dict) else value
    return kind(**settings)


_VISION_SMALL = {"depth": 1, "num_hidden_layers": 1, "out_hidden_size": 32}


def _shrink(config):
    sizes = {name: SIZES[name] for name, value in vars(config).items() if name in SIZES and type(value) is int}
    return sizes | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}


def _draw(config, auto, scale):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = auto.from_config(config)
        vocab = config.get_text_config().vocab_size
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() > 1 and parameter.is_floating_point():
                    parameter.mul_(scale if parameter.shape[0] != vocab else 3.0)
    return module


@dataclass(frozen=True)
class Path:
    """How a family goes through the network."""

    path: str
    """``trees``, ``rows``, ``whole texts``, ``refused`` or ``not tried``."""
    reason: str = ""


def find_path(family, tokenizer):
    """What a model of the family takes; never a warning or a trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = make_family(family)
            with torch.no_grad():
                module(torch.arange(2, 9)[None])
        except Exception as error:
            return Path("not tried", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        try:
            model = wrap_model(module, tokenizer, name=family)
            anatomy, compared = check_anatomy(model), compare_engines(model)
        except InputError as error:
            return Path("refused", str(error).removeprefix(f"model {family!r}: "))
        path = "trees" if compared.exact else "rows" if anatomy.recall == "cache" else "whole texts"
        reason = "" if compared.exact else anatomy.reason or compared.describe()
        return Path(path, reason)
