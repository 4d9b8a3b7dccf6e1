"""All broken servers."""

from __future__ import annotations

from tests.broken_servers import common, embedding, llm, rerank

CATALOGUE = [*common.BROKEN, *llm.BROKEN, *embedding.BROKEN, *rerank.BROKEN]
