"""Why a task may be slow: what to tell a person who has been watching one for a while."""

import re

SLOW_AFTER = 10.0  # seconds a task runs before its hint is shown

# The first pattern found in "<stage> <task>" (case does not matter) gives the hint. From special to general.
HINTS: tuple[tuple[str, str], ...] = (
    (r"byte-?compil", "Python files are compiled once, so that the servers start faster; all cores are busy."),
    (r"reboot|restart the host", "the host is restarting; servers with much memory and many disks take minutes."),
    (r"\b(dkms|driver|kernel)\b", "the driver is built for the running kernel; this takes a few minutes."),
    (r"(install|create|build|venv|sync).*(vllm|runtime|wheel|requirements|virtual|venv)",
     "about 2 GB of wheels are downloaded (from a cache the next time) and unpacked; the network and the disk decide."),
    (r"(checksum|manifest|verif\w+ .*model|hash)", "every byte of the model files is read again; the disk decides."),
    (r"(download|fetch|copy|transfer|sync|wait).*(model|weight|snapshot)",
     "model files are large (a 3B model is about 6 GB); an interrupted download continues where it stopped."),
    (r"(start|restart|wait|ready|active|enable).*(server|unit|serv|vllm|endpoint)",
     "a model server loads its weights, compiles, and answers a first real request before it counts as started."),
    (r"(verif|prove|ask|question)", "every endpoint is asked real questions; without a GPU each answer takes seconds."),
    (r"(apt|dnf|package)", "the package manager downloads and configures; it waits for any other one that runs."),
    (r"(gather|read).*(fact|host)", "the host is looked over; a slow answer here is usually DNS or a hanging mount."),
)  # fmt: skip


def hint_for(stage: str, task: str) -> str | None:
    """What makes `task` of `stage` slow, if known."""
    text = f"{stage} {task}"
    # The task's own name knows better than its stage's.
    for subject in (task, text):
        for pattern, hint in HINTS:
            if re.search(pattern, subject, re.IGNORECASE):
                return hint
    return None
