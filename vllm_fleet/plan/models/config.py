"""A model's config.json as vLLM sees it: its language part, with the defaults and other names of its class.

Transformers fills in what a config.json leaves out (gemma-3 states neither its heads' size nor its vocabulary), and
a multimodal model keeps its language model's numbers one level down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_fleet.plan.models.catalogue import Catalogue, ModelType, catalogue

# Where multimodal configurations keep their language model (transformers' get_text_config, vLLM's
# transformers_utils/config.py).
TEXT_PARTS = ("text_config", "llm_config", "language_config")


class UnreadableModel(Exception):  # noqa: N818 - it is the model that cannot be read
    """A model's description that says too little, or nothing that makes sense; the text is the reason."""


class Config:
    """The numbers of a config.json.

    Attributes:
        whole: the file's content.
        text: its language part; the same where it has no parts.
        model_type: of the whole.
        text_type: the model type of the language part.
    """

    def __init__(self, whole: object, known: Catalogue | None = None) -> None:
        if not isinstance(whole, Mapping):
            raise UnreadableModel("its config.json holds no mapping")
        known = known or catalogue()
        self.whole: Mapping[str, Any] = whole
        self.text = _text_part(whole)
        self.model_type = str(whole.get("model_type") or "")
        by_default = known.model_types.get(self.model_type, ModelType({}, {})).text
        own = self.text.get("model_type") if self.text is not whole else None
        self.text_type = str(own or by_default or self.model_type)
        self._type = known.model_types.get(self.text_type, ModelType({}, {}))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, by whichever name it has, or what the configuration's class says without it."""
        if key in self.text:
            return self.text[key]
        for written, meant in self._type.names.items():
            if meant == key and written in self.text:
                return self.text[written]
        return self._type.defaults.get(key, default)

    def number(self, *keys: str) -> int:
        """Return the first positive whole number among some keys.

        Raises:
            UnreadableModel: there is none.
        """
        for key in keys:
            value = self.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        raise UnreadableModel(f"its config.json ({self.model_type or 'without model_type'}) has no {' or '.join(keys)}")

    @property
    def architecture(self) -> str:
        """The first of its architectures, empty where it names none."""
        names = self.whole.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else ""

    @property
    def layer_pattern(self) -> str | None:
        """What repeats over the layers where config.json does not list them, see `ModelType`."""
        return self._type.layers

    @property
    def dtype(self) -> str | None:
        """The dtype it names, without ``torch.``, None where it names none."""
        for part in (self.whole, self.text):
            value = part.get("dtype") or part.get("torch_dtype")
            if isinstance(value, str):
                return value.removeprefix("torch.")
        return None

    @property
    def quantization(self) -> Mapping[str, Any] | None:
        """Its quantization, None where it has none (``compression_config`` is compressed-tensors' older name)."""
        for part in (self.whole, self.text):
            for key in ("quantization_config", "compression_config"):
                if isinstance(part.get(key), Mapping):
                    found: Mapping[str, Any] = part[key]
                    return found
        return None


def _text_part(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    thinker = whole.get("thinker_config")
    if isinstance(thinker, Mapping):
        return _text_part(thinker)
    for key in TEXT_PARTS:
        if isinstance(whole.get(key), Mapping):
            part: Mapping[str, Any] = whole[key]
            return part
    return whole
