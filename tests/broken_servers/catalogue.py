"""All broken servers."""

from __future__ import annotations

from tests.broken_servers import common, dify, embedding, gateway, llm, rerank

CATALOGUE = [*common.BROKEN, *llm.BROKEN, *embedding.BROKEN, *rerank.BROKEN, *dify.BROKEN, *gateway.BROKEN]
