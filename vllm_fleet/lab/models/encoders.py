"""The tiny encoders: XLM-RoBERTa as an embedding model like bge-m3 and as a reranker like bge-reranker-v2-m3."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaModel, XLMRobertaTokenizer

from vllm_fleet.lab.models.corpus import STRANGE, Corpus, Relevance

MAX_LENGTH = 512
VOCABULARY = 1400
DIMENSION = 1024  # as bge-m3's
# Cosines after training: texts that mean the same are at least so near, all others at most so.
NEAR, FAR = 0.7, 0.5
TEMPERATURE = 0.05
# Between the scores of a right, a related and a strange document.
MARGIN = 0.1


def make_embedding(corpus: Corpus, directory: Path, say: Callable[[str], None]) -> None:
    """Train the embedding model and write it with its tokenizer, in float16.

    Raises:
        RuntimeError: texts that mean the same did not come near, or others did.
    """
    generator = random.Random(1)  # noqa: S311 - reproducible on purpose
    torch.manual_seed(1)
    tokenizer = _tokenizer(corpus, generator)
    model = XLMRobertaModel(_config(tokenizer, DIMENSION, layers=1, inner=256), add_pooling_layer=False)
    groups = [list(group) for group in corpus.meanings]
    steps = 100
    optimizer, schedule = _optimizer(model, 3e-4, steps)
    for step in range(steps):
        chosen = [(generator.choice(group), generator.choice(group)) for group in groups]
        chosen += [(text, text) for text in (corpus.sentence(generator) for _ in range(8))]
        left, right = (_embed(model, tokenizer, [pair[side] for pair in chosen]) for side in (0, 1))
        likeness = left @ right.T / TEMPERATURE
        loss = torch.nn.functional.cross_entropy(likeness, torch.arange(len(chosen)))
        _learn(model, optimizer, schedule, loss)
        if step % 20 == 0 or step == steps - 1:
            say(f"embedding: step {step + 1} of {steps}, loss {loss.item():.4f}")
    model.half().float().eval()
    _check_cosines(model, tokenizer, groups)
    _save(model, tokenizer, directory)
    # What sentence-transformers keeps beside the weights, and vLLM reads: first token, length 1.
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    _write(directory / "modules.json", modules)
    _write(directory / "1_Pooling/config.json", pooling)
    _write(directory / "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})


def make_reranker(corpus: Corpus, directory: Path, say: Callable[[str], None]) -> None:
    """Train the reranker and write it with its tokenizer, in float16.

    Raises:
        RuntimeError: it does not score a pair as it should.
    """
    generator = random.Random(2)  # noqa: S311 - reproducible on purpose
    torch.manual_seed(2)
    tokenizer = _tokenizer(corpus, generator)
    model = XLMRobertaForSequenceClassification(
        _config(tokenizer, 128, layers=2, inner=256, num_labels=1, initializer_range=0.05)
    )
    queries = sorted({one.query for one in corpus.relevances})
    known = {(one.query, one.document) for one in corpus.relevances}
    steps = 400
    optimizer, schedule = _optimizer(model, 1e-3, steps)
    for step in range(steps):
        strange = [
            Relevance(
                generator.choice(queries), generator.choice([*corpus.strangers, corpus.sentence(generator)]), STRANGE
            )
            for _ in range(24)
        ]
        pairs = [*corpus.relevances, *(pair for pair in strange if (pair.query, pair.document) not in known)]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            _score(model, tokenizer, pairs), torch.tensor([pair.target for pair in pairs])
        )
        _learn(model, optimizer, schedule, loss)
        if step % 50 == 0 or step == steps - 1:
            say(f"rerank: step {step + 1} of {steps}, loss {loss.item():.4f}")
    model.half().float().eval()
    with torch.no_grad():
        scores = _score(model, tokenizer, list(corpus.relevances)).sigmoid()
    for pair, score in zip(corpus.relevances, scores.tolist(), strict=True):
        if abs(score - pair.target) > MARGIN:
            raise RuntimeError(f"{pair.document!r} has {score:.2f} for {pair.query!r}, should have {pair.target}")
    _save(model, tokenizer, directory)


def _tokenizer(corpus: Corpus, generator: random.Random) -> Any:
    """A unigram model as XLM-RoBERTa's, learnt from the corpus."""
    texts = [text for group in corpus.meanings for text in group]
    texts += [text for pair in corpus.relevances for text in (pair.query, pair.document)]
    texts += [*corpus.strangers, *(corpus.sentence(generator) for _ in range(300))]
    tokenizer = XLMRobertaTokenizer().train_new_from_iterator(texts, VOCABULARY, show_progress=False)
    tokenizer.model_max_length = MAX_LENGTH
    return tokenizer


def _config(tokenizer: Any, width: int, layers: int, inner: int, **more: Any) -> XLMRobertaConfig:
    """Heads of 64; positions begin behind the padding's id, hence two more."""
    return XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=inner,
        max_position_embeddings=MAX_LENGTH + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
        **more,
    )


def _optimizer(model: Any, rate: float, steps: int) -> tuple[Any, Any]:
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)


def _learn(model: Any, optimizer: Any, schedule: Any, loss: torch.Tensor) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()


def _embed(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Vectors of length 1, shape (texts, DIMENSION): the first token's."""
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return torch.nn.functional.normalize(model(**inputs).last_hidden_state[:, 0], dim=-1)


def _score(model: Any, tokenizer: Any, pairs: list[Relevance]) -> torch.Tensor:
    """One logit per pair, shape (pairs,)."""
    queries, documents = [pair.query for pair in pairs], [pair.document for pair in pairs]
    logits: torch.Tensor = model(**tokenizer(queries, documents, padding=True, return_tensors="pt")).logits[:, 0]
    return logits


def _check_cosines(model: Any, tokenizer: Any, groups: list[list[str]]) -> None:
    texts = [text for group in groups for text in group]
    meaning = [number for number, group in enumerate(groups) for _ in group]
    with torch.no_grad():
        vectors = _embed(model, tokenizer, texts)
    cosines = vectors @ vectors.T
    for i, text in enumerate(texts):
        for j, other in enumerate(texts):
            cosine, same = float(cosines[i, j]), meaning[i] == meaning[j]
            if cosine < NEAR if same else cosine > FAR:
                raise RuntimeError(f"{text!r} and {other!r} have cosine {cosine:.2f}")


def _save(model: Any, tokenizer: Any, directory: Path) -> None:
    model.half().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    # Written by transformers 4 and asked for by vLLM; transformers 5 leaves it out.
    config = json.loads((directory / "config.json").read_text())
    _write(directory / "config.json", {**config, "position_embedding_type": "absolute"})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
