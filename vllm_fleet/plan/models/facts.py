"""The facts of a model that a serving plan needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheLayers:
    """Layers that keep the same amount of KV cache per token.

    ``kv_heads`` is 0 where every rank keeps the whole (MLA's latent); ``size`` is then the number of elements per
    token and layer, otherwise the number per token, layer and KV head (keys and values together).
    ``window`` is the number of tokens a layer looks back, None for all.
    """

    count: int
    kv_heads: int
    size: int
    window: int | None = None


@dataclass(frozen=True)
class Weights:
    """Weights as they lie on disk, in bytes, by what tensor parallelism does to them.

    ``sharded`` is divided by the ranks, ``kv_projections`` as far as there are KV heads to divide, ``replicated``
    lies on every rank. ``other_dtype`` of them all is kept in a dtype of its own (quantized values, scales), the rest
    is converted to the server's dtype when loaded. ``stored_item_bytes`` is the size of one element of that rest.
    """

    sharded: int
    kv_projections: int
    replicated: int
    other_dtype: int
    stored_item_bytes: int

    @property
    def total(self) -> int:
        """All bytes on disk."""
        return self.sharded + self.kv_projections + self.replicated


@dataclass(frozen=True)
class ModelFacts:
    """What one model is. Sizes are numbers of elements unless they say bytes; unknown is None.

    ``source`` is ``directory`` (on the host), ``controller`` (copied from there), ``hub``, or ``shipped`` (a known
    model whose published numbers come with the project). ``counted`` says that parameters and weights come from the
    headers of the weights, or agree with their published size or that of the files, not from config.json alone.
    ``remote_code`` says whether vLLM needs code of the model's repository. Of the ``experts`` of a layer a token goes
    to ``experts_per_token``; each is ``expert_size`` wide. ``quantization_block`` is the number of neighbouring values
    that share a scale and cannot be torn apart by tensor parallelism. ``chat_template`` is None where that is not known
    and empty where there is none. ``default_max_model_len`` is the length that vLLM takes where none is declared, None
    where that is ``max_model_len``.
    """

    model: str
    source: str
    architecture: str
    model_type: str
    kinds: tuple[str, ...]
    parameters: int
    counted: bool
    weights: Weights
    dtype: str
    layers: int
    hidden_size: int
    intermediate_size: int
    attention_heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    max_model_len: int | None
    cache_layers: tuple[CacheLayers, ...]
    quantization: str | None = None
    kv_lora_rank: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    expert_size: int | None = None
    quantization_block: int | None = None
    default_max_model_len: int | None = None
    tied_embeddings: bool = False
    remote_code: bool | None = None
    chat_template: str | None = None
    transformers_version: str | None = None

    @property
    def length(self) -> int | None:
        """The length of a request in tokens that vLLM takes where none is declared."""
        return self.default_max_model_len or self.max_model_len
