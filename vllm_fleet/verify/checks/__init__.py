"""The checks; importing this package registers them, in the order in which they are asked."""

from vllm_fleet.verify.checks import common, chat, tools, embedding, rerank  # noqa: F401, I001
