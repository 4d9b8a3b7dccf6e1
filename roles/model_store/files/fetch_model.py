#!/usr/bin/env python3
"""Download one model from a hub and verify it. Run by the role model_store as a transient systemd unit.

    fetch_model.py --id Qwen/Qwen2.5-3B-Instruct --revision COMMIT --path DIRECTORY

Every file is checked against the size and hash that the hub has for the commit. The manifest is written last: without
it a directory is not complete. What an interrupted download left of a file is used by the next. Plain HTTP, not xet:
xet's transfers can stand still without an error (huggingface_hub#4508), and no other process can resume them.

Needs huggingface_hub, which comes with vLLM. A token is read from the systemd credential "token".
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST = ".vllm-fleet-manifest.json"  # what the copy is; changes only with its content
SEEN = ".vllm-fleet-verified.json"  # size and time of each file when it was verified, for a quick look later
PARTIAL = ".vllm-fleet-partial"  # directory of unfinished downloads
HEADROOM = 1 << 30
PROGRESS_SECONDS = 5.0
# The same weights for other programs; files of the second kind are needed where there are no safetensors beside them.
OTHER_FORMATS = (
    "*.onnx",
    "*.onnx_data",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.gguf",
    "*.mlmodel",
)
PICKLED = ("*.bin", "*.pt", "*.pth")


class FetchError(Exception):
    """A sentence for the operator."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit: path in the repository, bytes, and the hash the hub has for it.

    Attributes:
        sha256: of the content, for large files; None for files kept in git itself.
        blob: git's object id, the SHA-1 of a header and the content.
    """

    path: str
    size: int
    sha256: str | None
    blob: str


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)


def select_files(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Leave out weights in formats vLLM does not read, and pickled weights where the same directory has safetensors."""
    kept = [file for file in files if not any(fnmatch.fnmatchcase(file.path, pattern) for pattern in OTHER_FORMATS)]
    safe = {PurePosixPath(file.path).parent for file in kept if file.path.endswith(".safetensors")}

    def doubled(file: RemoteFile) -> bool:
        return PurePosixPath(file.path).parent in safe and any(fnmatch.fnmatchcase(file.path, p) for p in PICKLED)

    return [file for file in kept if not doubled(file)]


def matches(path: Path, remote: RemoteFile) -> str | None:
    """Return the SHA-256 of `path` if it has the content of `remote`, otherwise None. Reads the whole file."""
    if not path.is_file() or path.stat().st_size != remote.size:
        return None
    content = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % remote.size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            content.update(chunk)
            if remote.sha256 is None:
                blob.update(chunk)
    right = content.hexdigest() == remote.sha256 if remote.sha256 else blob.hexdigest() == remote.blob
    return content.hexdigest() if right else None


def write_whole(path: Path, content: object) -> None:
    """Write JSON to a file that is there entirely or not at all, even after a power failure."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def seen(directory: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Return size in bytes and modification time in ns of files below `directory`."""
    stats = {name: (directory / name).stat() for name in names}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def progress_line(done: int, total: int, per_second: float) -> str:
    """Describe how far a download of `total` bytes is, and how long the rest takes at this speed."""
    line = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB, {per_second / 1e6:.1f} MB/s"
    return f"{line}, {(total - done) / per_second:.0f} s left" if per_second > 0 else line


def explain(error: Exception, model: str, revision: str | None, endpoint: str, token: str | None) -> str:
    """Turn what huggingface_hub raised into a sentence: what was found, where, what to do."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    with_token = "the token in model_store_token" if token else "no token (model_store_token is empty)"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{model} is gated and {endpoint} refused {with_token}. Accept its terms at {endpoint}/{model} with the "
            "token's "
            "account, and give the token the right to read gated repositories."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{endpoint} has {model}, but no revision {revision} of it. Correct 'revision' in the declaration."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{endpoint} knows no model {model}, or hides it from {with_token}. Check the spelling of 'model'; "
            "a private model needs a token that may read it."
        )
    if status in (401, 403):
        return f"{endpoint} answered {status} to {with_token}. Renew it, with the right to read {model}."
    if status == 429:
        return f"{endpoint} refuses more requests from this address for now (429). Run again later, or with a token."
    if status is not None:
        return f"{endpoint} answered {status} for {model}: {str(error).splitlines()[0]}"
    request = getattr(error, "_request", None)
    where = request.url.host if request is not None else endpoint
    if isinstance(error, json.JSONDecodeError):
        return f"{endpoint} does not answer like a model hub. Check model_store_endpoint."
    return (
        f"{platform.node()} cannot fetch {model} from {where}: {type(error).__name__}: {error}. If it needs a proxy "
        "or has its own "
        "certificate authority, set model_store_environment; for a mirror, model_store_endpoint."
    )


def check_room(directory: Path, files: Iterable[RemoteFile]) -> None:
    """See that what is still to be fetched fits on the disk.

    Raises:
        FetchError: it does not.
    """
    missing = sum(file.size for file in files if not (directory / file.path).is_file())
    parts = sum(part.stat().st_size for part in (directory / PARTIAL).glob("*"))
    free = shutil.disk_usage(directory).free
    if free < missing - parts + HEADROOM:
        raise FetchError(
            f"{directory} on {platform.node()}: {free / 1e9:.1f} GB free, {(missing - parts + HEADROOM) / 1e9:.1f} "
            "GB needed. "
            "Make room, or move model_store_root to a larger file system."
        )


def fetch_file(
    directory: Path, remote: RemoteFile, url: str, headers: Mapping[str, str], stop: threading.Event
) -> tuple[str, bool]:
    """Bring one file below `directory`, continuing an earlier download. Return its SHA-256 and whether it was fetched.

    Raises:
        FetchError: the hub's copy itself does not have the hash that the hub gives for it.
    """
    from huggingface_hub.file_download import http_get

    target = directory / remote.path
    if digest := matches(target, remote):
        return digest, False
    part = directory / PARTIAL / hashlib.sha256(f"{remote.path} {remote.blob}".encode()).hexdigest()[:32]
    for _attempt in range(2):  # the second time from the start, in case what an earlier download left was damaged
        if stop.is_set():
            raise FetchError("stopped")
        with part.open("ab") as file:
            have = file.tell()
            if have > remote.size:
                file.truncate(have := 0)
            http_get(url, file, resume_size=have, headers=dict(headers), expected_size=remote.size)
        if digest := matches(part, remote):
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            return digest, True
        part.unlink()
    raise FetchError(
        f"{remote.path} has another content than the hub's own hash of it, twice: {remote.sha256 or remote.blob} was "
        "expected. "
        "The source or the mirror is damaged: declare another revision or another model_store_endpoint."
    )


def present_bytes(directory: Path, files: Iterable[RemoteFile]) -> int:
    """Return how many bytes of `files` are there, unfinished ones included."""
    done = sum(file.size for file in files if (directory / file.path).is_file())
    for part in (directory / PARTIAL).glob("*"):
        try:
            done += part.stat().st_size
        except FileNotFoundError:  # finished meanwhile
            continue
    return done


def watch(stop: threading.Event, directory: Path, files: list[RemoteFile]) -> None:
    """Print progress until `stop` is set."""
    total = sum(file.size for file in files)
    first, started = present_bytes(directory, files), time.monotonic()
    while not stop.wait(PROGRESS_SECONDS):
        done = present_bytes(directory, files)
        say("verifying" if done >= total else progress_line(done, total, (done - first) / (time.monotonic() - started)))


def fetch_all(
    directory: Path, files: list[RemoteFile], urls: Mapping[str, str], headers: Mapping[str, str], at_once: int
) -> dict[str, tuple[str, bool]]:
    """Bring all files, the largest first. Return for each path its SHA-256 and whether it was fetched.

    Raises:
        Exception: the first error of any file; the others are stopped before their next file.
    """
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(stop, directory, files), daemon=True)
    watcher.start()
    try:
        with ThreadPoolExecutor(at_once) as pool:
            jobs = {
                file.path: pool.submit(fetch_file, directory, file, urls[file.path], headers, stop)
                for file in sorted(files, key=lambda file: -file.size)
            }
            try:
                return {path: job.result() for path, job in jobs.items()}
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        stop.set()


def fetch(arguments: argparse.Namespace, token: str | None) -> str:
    """Bring the model and return a sentence about it.

    Raises:
        FetchError: what must be put right by hand.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    directory: Path = arguments.path
    api = HfApi(endpoint=arguments.endpoint, token=token or False)
    try:
        info = api.model_info(arguments.id, revision=arguments.revision, files_metadata=True)
        files = select_files(
            RemoteFile(entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs else None, entry.blob_id or "")
            for entry in info.siblings or []
        )
        directory.mkdir(parents=True, exist_ok=True)
        (directory / PARTIAL).mkdir(exist_ok=True)
        check_room(directory, files)
        before = read_manifest(directory)
        (directory / MANIFEST).unlink(missing_ok=True)
        urls = {
            file.path: hf_hub_url(arguments.id, file.path, revision=info.sha, endpoint=arguments.endpoint)
            for file in files
        }
        headers = {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}
        results = fetch_all(directory, files, urls, headers, arguments.at_once)
    except FetchError:
        raise
    except Exception as error:
        raise FetchError(explain(error, arguments.id, arguments.revision, api.endpoint, token)) from error
    shutil.rmtree(directory / PARTIAL)
    for name in set(before.get("files", {})) - set(results):
        (directory / name).unlink(missing_ok=True)
    manifest = {
        "id": arguments.id,
        "revision": arguments.revision,
        "commit": info.sha,
        "files": {file.path: {"size": file.size, "sha256": results[file.path][0]} for file in files},
    }
    write_whole(directory / SEEN, seen(directory, results))
    write_whole(directory / MANIFEST, manifest)
    total = sum(file.size for file in files) / 1e9
    untouched = before == manifest and not any(fetched for _digest, fetched in results.values())
    kept = "is as the hub has it" if untouched else "fetched and verified"
    return f"{arguments.id} at {info.sha} {kept}: {len(files)} files, {total:.2f} GB"


def read_manifest(directory: Path) -> dict[str, object]:
    """Return the manifest of a complete copy, otherwise an empty mapping."""
    try:
        return dict(json.loads((directory / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def read_token() -> str | None:
    """Return the token systemd hands over, None where there is none."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, "token") if directory else None
    return (path.read_text(encoding="utf-8").strip() or None) if path and path.exists() else None


def main() -> int:
    """Fetch what the command line names."""
    parser = argparse.ArgumentParser(description="Download one model from a hub and verify it.")
    parser.add_argument("--id", required=True)
    parser.add_argument("--revision")
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--endpoint", help="URL of the hub or a mirror of it")
    parser.add_argument(
        "--stall", type=int, default=60, help="seconds without a byte after which a connection is given up"
    )
    parser.add_argument("--at-once", type=int, default=4, help="files to fetch at a time")
    arguments = parser.parse_args()
    # Read by huggingface_hub when it is imported.
    os.environ.update(
        HF_HUB_DOWNLOAD_TIMEOUT=str(arguments.stall),
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_IMPLICIT_TOKEN="1",  # noqa: S106 - a switch, not a token
    )
    os.umask(0o022)
    try:
        say(fetch(arguments, read_token()))
    except (FetchError, OSError) as error:
        for line in str(error).splitlines():
            print(f"<3>{line}", file=sys.stderr)  # the journal's mark of an error
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
