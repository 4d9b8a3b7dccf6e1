"""The tensors that a model of a well-known family has, from its config.json alone.

For models whose weights are not at hand. Names and shapes are those of the published checkpoints; the result is
classified in the same way as what was read from the headers of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vllm_fleet.plan.models.attention import head_size, kv_heads, kv_lora_rank
from vllm_fleet.plan.models.config import Config, UnreadableModel
from vllm_fleet.plan.models.tensors import STORED, Tensor

Linear = Callable[..., Iterator[Tensor]]

ENCODERS = ("bert", "roberta", "xlm-roberta")
NORMS = {"gemma2": 4, "gemma3_text": 4}
HEAD_NORMS = ("qwen3", "qwen3_moe", "gemma3_text")
QKV_BIAS = ("qwen2", "qwen2_moe")
DENSE = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
EXPERTS = ("mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3", "gpt_oss")
MXFP4_GROUP = 32


def expected(config: Config, dtype: str) -> list[Tensor]:
    """Return the tensors of a model whose weights are stored in a dtype, but for what is quantized.

    Raises:
        UnreadableModel: its family, or its quantization, is not one of those known here.
    """
    if config.text_type in ENCODERS:
        return list(_encoder(config, STORED[dtype]))
    if config.text_type not in DENSE + EXPERTS:
        raise UnreadableModel(
            f"its weights are not at hand, and those of model_type {config.text_type!r} are not known"
        )
    return [*_decoder(config, STORED[dtype]), *_vision(config, STORED[dtype])]


def _encoder(config: Config, stored: str) -> Iterator[Tensor]:
    """BERT and its kin: every matrix has a bias, every norm two vectors."""
    hidden, wide = config.number("hidden_size"), config.number("intermediate_size")
    layers = config.number("num_hidden_layers")

    def linear(name: str, width: int, depth: int, count: int = 1) -> Iterator[Tensor]:
        yield Tensor(f"{name}.weight", (width, depth), stored, count)
        yield Tensor(f"{name}.bias", (width,), stored, count)

    for name, size in (
        ("word", config.number("vocab_size")),
        ("position", config.number("max_position_embeddings")),
        ("token_type", config.number("type_vocab_size")),
    ):
        yield Tensor(f"embeddings.{name}_embeddings.weight", (size, hidden), stored)
    yield Tensor("embeddings.LayerNorm.weight", (hidden,), stored, 2)
    for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        yield from linear(f"encoder.layer.#.{name}", hidden, hidden, layers)
    yield from linear("encoder.layer.#.intermediate.dense", wide, hidden, layers)
    yield from linear("encoder.layer.#.output.dense", hidden, wide, layers)
    yield Tensor("encoder.layer.#.LayerNorm.weight", (hidden,), stored, 4 * layers)
    if not config.architecture.endswith("ForSequenceClassification"):
        yield from linear("pooler.dense", hidden, hidden)
    else:
        labels = len(config.whole.get("id2label") or (0, 1))
        yield from linear("classifier.dense", hidden, hidden)
        yield from linear("classifier.out_proj", labels, hidden)


def _decoder(config: Config, stored: str) -> Iterator[Tensor]:
    hidden, layers = config.number("hidden_size"), config.number("num_hidden_layers")
    linear = _linear(config, stored)
    yield Tensor("model.embed_tokens.weight", (config.number("vocab_size"), hidden), stored)
    if not config.get("tie_word_embeddings"):
        yield Tensor("lm_head.weight", (config.number("vocab_size"), hidden), stored)
    yield Tensor("model.norm.weight", (hidden,), stored)
    yield Tensor("model.layers.#.norm.weight", (hidden,), stored, NORMS.get(config.text_type, 2) * layers)
    yield from _attention(config, stored, linear, layers)
    if config.text_type == "gpt_oss":
        yield from _mxfp4_experts(config, stored, layers)
        return
    if config.text_type not in EXPERTS:
        yield from _mlp("model.layers.#.mlp", hidden, config.number("intermediate_size"), linear, layers)
        return
    experts = config.number("num_experts", "num_local_experts", "n_routed_experts")
    dense = int(config.get("first_k_dense_replace") or 0) if config.text_type.startswith("deepseek") else 0
    wide = config.number("moe_intermediate_size", "intermediate_size")
    yield Tensor("model.layers.#.mlp.gate.weight", (experts, hidden), stored, layers - dense)
    yield from _mlp("model.layers.#.mlp.experts.#", hidden, wide, linear, (layers - dense) * experts)
    if dense:
        yield from _mlp("model.layers.#.mlp", hidden, config.number("intermediate_size"), linear, dense)
    if shared := int(config.get("n_shared_experts") or 0):
        yield from _mlp("model.layers.#.mlp.shared_experts", hidden, wide * shared, linear, layers - dense)
    if config.get("topk_method") == "noaux_tc":
        yield Tensor("model.layers.#.mlp.gate.e_score_correction_bias", (experts,), "F32", layers - dense)


def _attention(config: Config, stored: str, linear: Linear, layers: int) -> Iterator[Tensor]:
    prefix = "model.layers.#.self_attn"
    hidden, heads = config.number("hidden_size"), config.number("num_attention_heads")
    rank = kv_lora_rank(config)
    if rank is not None:
        rope, nope = config.number("qk_rope_head_dim"), config.number("qk_nope_head_dim")
        value, query = config.number("v_head_dim"), config.get("q_lora_rank")
        if query:
            yield from linear(f"{prefix}.q_a_proj", query, hidden, layers)
            yield Tensor(f"{prefix}.q_a_layernorm.weight", (query,), stored, layers)
        yield from linear(f"{prefix}.q_{'b_' if query else ''}proj", heads * (rope + nope), query or hidden, layers)
        yield from linear(f"{prefix}.kv_a_proj_with_mqa", rank + rope, hidden, layers)
        yield Tensor(f"{prefix}.kv_a_layernorm.weight", (rank,), stored, layers)
        yield from linear(f"{prefix}.kv_b_proj", heads * (nope + value), rank, layers)
        yield from linear(f"{prefix}.o_proj", hidden, heads * value, layers)
        return
    size, bias = head_size(config), config.text_type in QKV_BIAS or bool(config.get("attention_bias"))
    for name, count in (("q", heads), ("k", kv_heads(config)), ("v", kv_heads(config))):
        yield from linear(f"{prefix}.{name}_proj", count * size, hidden, layers)
        if bias:
            yield Tensor(f"{prefix}.{name}_proj.bias", (count * size,), stored, layers)
    yield from linear(f"{prefix}.o_proj", hidden, heads * size, layers)
    if config.get("attention_bias"):
        yield Tensor(f"{prefix}.o_proj.bias", (hidden,), stored, layers)
    if config.text_type in HEAD_NORMS:
        yield Tensor(f"{prefix}.qk_norm.weight", (size,), stored, 2 * layers)
    if config.text_type == "gpt_oss":
        yield Tensor(f"{prefix}.sinks", (heads,), stored, layers)


def _mlp(prefix: str, hidden: int, wide: int, linear: Linear, count: int) -> Iterator[Tensor]:
    yield from linear(f"{prefix}.gate_proj", wide, hidden, count)
    yield from linear(f"{prefix}.up_proj", wide, hidden, count)
    yield from linear(f"{prefix}.down_proj", hidden, wide, count)


def _mxfp4_experts(config: Config, stored: str, layers: int) -> Iterator[Tensor]:
    """gpt-oss: the experts of a layer in one tensor, values of 4 bits with a scale of 8 for each 32 of them."""
    hidden, wide = config.number("hidden_size"), config.number("intermediate_size")
    experts, prefix = config.number("num_local_experts", "num_experts"), "model.layers.#.mlp"
    yield Tensor(f"{prefix}.router.weight", (experts, hidden), stored, layers)
    yield Tensor(f"{prefix}.router.bias", (experts,), stored, layers)
    for name, rows, depth in (("gate_up_proj", 2 * wide, hidden), ("down_proj", hidden, wide)):
        groups = depth // MXFP4_GROUP
        yield Tensor(f"{prefix}.experts.{name}_blocks", (experts, rows, groups, MXFP4_GROUP // 2), "U8", layers)
        yield Tensor(f"{prefix}.experts.{name}_scales", (experts, rows, groups), "U8", layers)
        yield Tensor(f"{prefix}.experts.{name}_bias", (experts, rows), stored, layers)


def _linear(config: Config, stored: str) -> Linear:
    """Return what makes the tensors of a matrix without its bias, as the model's quantization stores it."""
    quantization = config.quantization or {}
    method = quantization.get("quant_method")
    if method in (None, "mxfp4"):  # of gpt-oss, mxfp4 leaves everything but the experts as it is

        def plain(name: str, width: int, depth: int, count: int) -> Iterator[Tensor]:
            yield Tensor(f"{name}.weight", (width, depth), stored, count)

        return plain
    if method in ("awq", "gptq"):
        bits, group = int(quantization.get("bits", 4)), int(quantization.get("group_size", 128))
        packed = 32 // bits

        def grouped(name: str, width: int, depth: int, count: int) -> Iterator[Tensor]:
            groups = depth // group if group > 0 else 1
            yield Tensor(f"{name}.qweight", (depth, width // packed), "I32", count)
            yield Tensor(f"{name}.qzeros", (groups, width // packed), "I32", count)
            yield Tensor(f"{name}.scales", (groups, width), stored, count)
            if method == "gptq":
                yield Tensor(f"{name}.g_idx", (depth,), "I32", count)

        return grouped
    if method == "fp8" and (block := quantization.get("weight_block_size")):

        def blockwise(name: str, width: int, depth: int, count: int) -> Iterator[Tensor]:
            yield Tensor(f"{name}.weight", (width, depth), "F8_E4M3", count)
            scales = (-(-width // block[0]), -(-depth // block[1]))
            yield Tensor(f"{name}.weight_scale_inv", scales, "F32", count)

        return blockwise
    raise UnreadableModel(f"its weights are not at hand, and how {method!r} stores them is not known")


def _vision(config: Config, stored: str) -> Iterator[Tensor]:
    """SigLIP, as gemma-3 has it; no tensors where there is no such part."""
    vision = config.whole.get("vision_config")
    if not vision:
        return
    if vision.get("model_type") != "siglip_vision_model":
        raise UnreadableModel("its weights are not at hand, and those of its vision part are not known")
    prefix = "vision_tower.vision_model"
    hidden, wide, layers = vision["hidden_size"], vision["intermediate_size"], vision["num_hidden_layers"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    shapes: list[tuple[str, tuple[int, ...], int]] = [
        ("embeddings.patch_embedding.weight", (hidden, 3, vision["patch_size"], vision["patch_size"]), 1)
    ]
    shapes += [
        ("embeddings.patch_embedding.bias", (hidden,), 1),
        ("embeddings.position_embedding.weight", (patches, hidden), 1),
    ]
    layer = "encoder.layers.#"
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes += [(f"{layer}.self_attn.{name}.weight", (hidden, hidden), layers)]
        shapes += [(f"{layer}.self_attn.{name}.bias", (hidden,), layers)]
    shapes += [(f"{layer}.mlp.fc1.weight", (wide, hidden), layers), (f"{layer}.mlp.fc1.bias", (wide,), layers)]
    shapes += [(f"{layer}.mlp.fc2.weight", (hidden, wide), layers), (f"{layer}.mlp.fc2.bias", (hidden,), layers)]
    shapes += [(f"{layer}.layer_norm.weight", (hidden,), 4 * layers), ("post_layernorm.weight", (hidden,), 2)]
    yield from (Tensor(f"{prefix}.{name}", shape, stored, count) for name, shape, count in shapes)
    yield Tensor("multi_modal_projector.mm_input_projection_weight", (hidden, config.number("hidden_size")), stored)
    yield Tensor("multi_modal_projector.mm_soft_emb_norm.weight", (hidden,), stored)
