"""What vLLM can serve a model as, and whether it needs code of the model's repository for it.

The rules are those of vLLM's config/model.py (`_get_default_runner_type`, `_get_default_convert_type`,
`_SUFFIX_TO_DEFAULTS`) and of Transformers' resolve_trust_remote_code; the architectures are in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_fleet.plan.models.catalogue import catalogue
from vllm_fleet.plan.models.config import Config

GENERATING_SUFFIXES = ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel")
SCORING_SUFFIX = "ForSequenceClassification"
# These pool, too, but answer neither with an embedding nor with the score of a document.
OTHER_SUFFIXES = (
    "ClassificationModel",
    "ForAudioClassification",
    "ForImageClassification",
    "ForProcessRewardModel",
    "ForRewardModel",
    "ForRewardModeling",
    "ForTokenClassification",
    "ForVideoClassification",
    "RewardModel",
)
# Transformers' own default where config.json says nothing of labels.
DEFAULT_LABELS = 2


def traits(architecture: str) -> frozenset[str]:
    """Return the catalogue's traits of an architecture, or of what vLLM makes of it."""
    known = catalogue().architectures
    if architecture in known:
        return known[architecture]
    if architecture.endswith(SCORING_SUFFIX):
        # vLLM puts a classifier on the generating model of that name.
        base = architecture.removesuffix(SCORING_SUFFIX)
        found = next((known[base + suffix] for suffix in GENERATING_SUFFIXES if base + suffix in known), frozenset())
        return (found - {"generate"}) | {"pooling", "scores"}
    if architecture.endswith(OTHER_SUFFIXES):
        return frozenset({"pooling"})
    if architecture.endswith(GENERATING_SUFFIXES):
        return frozenset({"generate"})
    return frozenset({"pooling"})


def kinds(architecture: str, labels: int | None, sentence_transformer: bool) -> tuple[str, ...]:
    """Return the kinds of servers a model can be, the one it was made for first.

    Args:
        architecture: the first that config.json names.
        labels: the size of its classifier, None where it has none.
        sentence_transformer: whether its modules.json says how to make an embedding of its output.
    """
    found = traits(architecture)
    if "scores" in found:
        # vLLM answers /rerank only where there is one label (`num_labels == 1`).
        return ("rerank",) if not architecture.endswith(SCORING_SUFFIX) or labels == 1 else ()
    if architecture.endswith(OTHER_SUFFIXES):
        return ()
    if "generate" in found:
        return ("embedding", "llm") if sentence_transformer else ("llm", "embedding")
    return ("embedding",) if "pooling" in found else ()


def label_count(config: Config) -> int:
    """Return how many labels the classifier of a model has."""
    names = config.whole.get("id2label")
    if isinstance(names, Mapping):
        return len(names)
    labels = config.whole.get("num_labels")
    return labels if isinstance(labels, int) else DEFAULT_LABELS


def remote_code(config: Config, tokenizer_config: Mapping[str, Any] | None) -> bool | None:
    """Return whether vLLM needs code of the model's repository, None where that cannot be told.

    Code that comes along is not needed where vLLM, or Transformers, has a class of its own for the same.
    """
    known = catalogue()
    own = _auto_map(config.whole)
    if config.model_type not in known.model_types:
        return True if "AutoConfig" in own else None
    native = bool(traits(config.architecture)) and (
        config.architecture in known.architectures or config.architecture.endswith(SCORING_SUFFIX)
    )
    if not native and any(name.startswith("AutoModel") for name in own):
        return True
    tokenizer = tokenizer_config or {}
    if "AutoTokenizer" in _auto_map(tokenizer) and config.model_type not in known.tokenizer_types:
        tokenizer_class = str(tokenizer.get("tokenizer_class") or "").removesuffix("Fast")
        return tokenizer_class not in known.tokenizer_classes
    if "AutoProcessor" in own or ("multimodal" in traits(config.architecture) and own):
        return None
    return False


def _auto_map(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = part.get("auto_map")
    if isinstance(found, list):
        return {"AutoTokenizer": found}  # the older form, for tokenizers only
    return found if isinstance(found, Mapping) else {}
