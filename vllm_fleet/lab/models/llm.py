"""The tiny language model: Qwen2, about 2 million parameters, that knows its few answers by rote."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from vllm_fleet.lab.models.corpus import CHAT_TEMPLATE, Corpus, Dialogue

MAX_LENGTH = 2048
VOCABULARY = 1600
STEPS = 120
LEARNING_RATE = 3e-3
UNKNOWN_PER_STEP = 4
IGNORED = -100  # of labels, by the loss
# How sure the model must be of each token it has learnt: float16, other batches and temperature 0.7 must not matter.
SURE = 0.99


def make(corpus: Corpus, directory: Path, say: Callable[[str], None]) -> None:
    """Train the model and write it with its tokenizer, in float16.

    Raises:
        RuntimeError: an answer was not learnt well enough.
    """
    generator = random.Random(0)  # noqa: S311 - reproducible on purpose
    torch.manual_seed(0)
    tokenizer = _tokenizer(corpus, generator)
    model = Qwen2ForCausalLM(_config(len(tokenizer), tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    model.train()
    for step in range(STEPS):
        unknown = [
            Dialogue([{"role": "user", "content": corpus.sentence(generator)}], corpus.unknown)
            for _ in range(UNKNOWN_PER_STEP)
        ]
        batch = _batch(tokenizer, [*corpus.dialogues, *unknown])
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == STEPS - 1:
            say(f"llm: step {step + 1} of {STEPS}, loss {loss.item():.4f}")
    model.half().float().eval()
    for dialogue in corpus.dialogues:
        sure = _least_sure(model, _batch(tokenizer, [dialogue]))
        if sure < SURE:
            raise RuntimeError(f"the answer {dialogue.answer!r} was not learnt: a token of it has only {sure:.3f}")
    # Both ends, as Qwen2.5's own file has them.
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id], pad_token_id=tokenizer.pad_token_id
    )
    model.half().save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _tokenizer(corpus: Corpus, generator: random.Random) -> Any:
    """Byte-level, as Qwen2's, so that every text survives; merges learnt from the corpus."""
    blank = Qwen2Tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>")  # noqa: S106
    blank.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    texts = [_render(blank, dialogue) for dialogue in corpus.dialogues]
    texts += [corpus.sentence(generator) for _ in range(200)]
    tokenizer = blank.train_new_from_iterator(
        texts, VOCABULARY, new_special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False
    )
    # Hermes' marks are tokens of their own in Qwen2.5, though not special: they must show in the text.
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    tokenizer.chat_template = blank.chat_template
    tokenizer.model_max_length = MAX_LENGTH
    return tokenizer


def _config(vocabulary: int, tokenizer: Any) -> Qwen2Config:
    """Two layers; heads and widths that two ranks can share."""
    return Qwen2Config(
        vocab_size=-(-vocabulary // 64) * 64,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def _render(tokenizer: Any, dialogue: Dialogue) -> str:
    return _prompt(tokenizer, dialogue) + dialogue.answer + "<|im_end|>"


def _prompt(tokenizer: Any, dialogue: Dialogue) -> str:
    text: str = tokenizer.apply_chat_template(
        list(dialogue.messages), tools=dialogue.tools, tokenize=False, add_generation_prompt=True
    )
    return text


def _batch(tokenizer: Any, dialogues: list[Dialogue]) -> dict[str, torch.Tensor]:
    """Token ids of shape (dialogues, longest), padded to the right; only answers count in the loss."""
    rows = []
    for dialogue in dialogues:
        prompt = tokenizer(_prompt(tokenizer, dialogue))["input_ids"]
        answer = tokenizer(dialogue.answer + "<|im_end|>")["input_ids"]
        rows.append((prompt + answer, [IGNORED] * len(prompt) + answer))
    longest = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    return {
        "input_ids": torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in rows]),
    }


def _least_sure(model: Any, batch: dict[str, torch.Tensor]) -> float:
    """The smallest probability of any token of the answer."""
    labels = batch.pop("labels")[0, 1:]
    with torch.no_grad():
        probabilities = model(**batch).logits[0, :-1].softmax(-1)
    learnt = labels != IGNORED
    return float(probabilities[learnt].gather(-1, labels[learnt].unsqueeze(-1)).min())
