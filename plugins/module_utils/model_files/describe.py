"""The description of a model: what planning needs of its files, as plain JSON."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from .errors import Unread
from .headers import LENGTH_BYTES, header_bytes, summary, tensors

MOST_TEXT_BYTES = 8 << 20
FIRST_BYTES = 1 << 16  # of a weight file: most headers are smaller, and come with one request
READERS = 8
INDEX = "model.safetensors.index.json"
TOKENIZER_KEYS = ("auto_map", "chat_template", "model_max_length", "tokenizer_class")
# Where sentence-transformers say how long an input may be, in the order vLLM looks for them.
SENTENCE_CONFIGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Files with the ending of weights that are none.
NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")


def describe(source):
    """Return the description of the model in a source (a Directory or a Hub).

    Raises:
        Unread: it is no model, or not all of one.
    """
    files = source.files()
    if "config.json" not in files:
        raise Unread("there is no config.json")
    tokenizer = _json(source, files, "tokenizer_config.json")
    names, headers = _weight_files(source, files)
    found = {}
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(lambda name: _tensors(source, name, files[name]), names if headers else ()):
            found.update(part)
    sizes = {name: files[name] for name in names}
    return {
        "source": source.kind,
        "config": _json(source, files, "config.json"),
        "tokenizer_config": None if tokenizer is None else {k: tokenizer[k] for k in TOKENIZER_KEYS if k in tokenizer},
        "chat_template": _chat_template(source, files, tokenizer or {}),
        "generation_config": _json(source, files, "generation_config.json"),
        "max_seq_length": _max_seq_length(source, files),
        "sentence_transformer": _pools(source, files),
        "weights": summary(found),
        "files": sizes,
        "total_bytes": sum(sizes.values()),
    }


def _text(source, files, name):
    """Return the text of a file, None where there is no such file."""
    if name not in files:
        return None
    if files[name] > MOST_TEXT_BYTES:
        raise Unread(f"{name} has {files[name]:,} bytes, too many for what it should be")
    try:
        return source.part(name, 0, MOST_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise Unread(f"{name} is no text") from None


def _parsed(source, files, name):
    text = _text(source, files, name)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as problem:
        raise Unread(f"{name} is no JSON: {problem}") from None


def _json(source, files, name):
    """Return the mapping in a file, None where there is no such file."""
    content = _parsed(source, files, name)
    if content is not None and not isinstance(content, dict):
        raise Unread(f"{name} holds no mapping")
    return content


def _chat_template(source, files, tokenizer):
    """Return the chat template, empty where there is none; a file of its own wins over tokenizer_config.json."""
    alone = _text(source, files, "chat_template.jinja")
    if alone is not None:
        return alone
    listed = (_json(source, files, "chat_template.json") or {}).get("chat_template") or tokenizer.get("chat_template")
    if isinstance(listed, list):  # several by name: vLLM takes the one for tools where there are tools
        named = {entry.get("name"): entry.get("template") for entry in listed if isinstance(entry, dict)}
        listed = named.get("tool_use") or named.get("default")
    return listed if isinstance(listed, str) else ""


def _max_seq_length(source, files):
    for name in SENTENCE_CONFIGS:
        length = (_json(source, files, name) or {}).get("max_seq_length")
        if isinstance(length, int):
            return length
    return None


def _pools(source, files):
    """Whether modules.json says how to make one embedding of a model's output."""
    modules = _parsed(source, files, "modules.json")
    kinds = [str(module.get("type")) for module in modules or () if isinstance(module, dict)]
    return any(kind.startswith("sentence_transformers.") and kind.endswith(".Pooling") for kind in kinds)


def _weight_files(source, files):
    """Return the names of the files that vLLM loads, and whether they have headers: safetensors before .bin and .pt."""
    index = _json(source, files, INDEX)
    if index is not None:
        mapped = index.get("weight_map")
        names = sorted(set(mapped.values())) if isinstance(mapped, dict) else []
        missing = [str(name) for name in names if name not in files]
        if missing or not names:
            raise Unread("not all of it is there: {} names {}".format(INDEX, ", ".join(missing) or "no files"))
        return names, True
    names = [name for name in files if name.endswith(".safetensors")]
    # Mistral's own format of the same weights, which vLLM leaves alone beside the usual one.
    names = [name for name in names if not name.startswith("consolidated")] or names
    if names:
        return names, True
    for ending in (".bin", ".pt"):
        names = [name for name in files if name.endswith(ending) and name not in NO_WEIGHTS]
        if names:
            return names, False
    raise Unread("there are no weights")


def _tensors(source, name, size):
    """Return the tensors of one safetensors file."""
    begin = source.part(name, 0, FIRST_BYTES)
    length = header_bytes(name, begin)
    end = LENGTH_BYTES + length
    if len(begin) < end:
        begin += source.part(name, len(begin), end - len(begin))
    if len(begin) < end:
        raise Unread(f"{name} ends within its header: fetch it again")
    return tensors(name, begin[LENGTH_BYTES:end], size)
