"""The checks; importing this package registers them, in the order in which they are asked."""

from vllm_fleet.verify.checks import (  # noqa: F401, I001
    common,
    refusals,
    chat,
    structured,
    tools,
    embedding,
    rerank,
    dify,
    length,
    load,
    golden,
    gateway,
    gateway_doors,
)
