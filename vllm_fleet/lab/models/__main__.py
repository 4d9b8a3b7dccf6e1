"""Train the lab's models: `python -m vllm_fleet.lab.models DIRECTORY`, run by the Python of a vLLM release."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vllm_fleet.lab.models import corpus, encoders, llm

# Beside each model: of what it was trained, so that a test notices when that has changed.
MARK = "trained-from.txt"


def main() -> int:
    """Train all three into DIRECTORY/llm, DIRECTORY/embedding and DIRECTORY/rerank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", help="llm, embedding, rerank; default: all")
    arguments = parser.parse_args()
    learnt = corpus.load()
    makers = {"llm": llm.make, "embedding": encoders.make_embedding, "rerank": encoders.make_reranker}
    for name in arguments.names or makers:
        directory = arguments.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        makers[name](learnt, directory, lambda text: print(text, flush=True))
        (directory / MARK).write_text(f"{learnt.digest}\n")
        for file in directory.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)  # save_pretrained writes 0600
    return 0


if __name__ == "__main__":
    sys.exit(main())
