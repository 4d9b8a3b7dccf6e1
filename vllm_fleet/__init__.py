"""vllm-fleet: bare-metal GPU hosts to proved LLM, embedding and rerank endpoints."""
