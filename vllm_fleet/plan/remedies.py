"""Changes of a declaration that make what does not fit fit; each is tried before it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from vllm_fleet.plan.host import Host
from vllm_fleet.plan.problems import Change, Problem
from vllm_fleet.plan.solve import Case

# Lengths are named in steps that people would write.
LENGTH_STEP = 256
MOST_NAMED = 3
MOST_GPUS = 16
SIZES = (1, 2, 4, 8, 16)

Remedy = tuple[Change, ...]
ErrorsOf = Callable[[Sequence[Case], Host], Sequence[Problem]]


def with_remedies(problem: Problem, cases: Sequence[Case], host: Host, errors_of: ErrorsOf) -> Problem:
    """Return an error about memory or places with the changes that remove it, in words as well.

    Args:
        problem: the error; remedies it has already are tried and, where they hold, come last.
        cases: all servers of the host.
        host: the host.
        errors_of: returns the errors that changed servers, or another host, would have.
    """

    def leaves(remedy: Remedy) -> set[tuple[str, str]]:
        return {(other.where, other.code) for other in errors_of(*_applied(remedy, cases, host))}

    # Best is what leaves no error at all; with several servers in trouble, what removes at least this one.
    ways = (lambda remedy: not leaves(remedy), lambda remedy: (problem.where, problem.code) not in leaves(remedy))
    found = (tuple(islice(_remedies(problem, cases, host, removes), MOST_NAMED)) for removes in ways)
    remedies = next(filter(None, found), ())
    if not remedies:
        more = "; declare a smaller model, or use GPUs with more memory" if problem.code == "plan-memory" else ""
        return replace(problem, message=f"{problem.message}{more}", remedies=())
    words = ", or ".join(" and ".join(map(in_words, remedy)) for remedy in remedies)
    return replace(problem, message=f"{problem.message}; fits with {words}", remedies=remedies)


def in_words(change: Change) -> str:
    """Return a change for a sentence."""
    if change.server is None:
        return f"{change.value} GPUs of this kind"
    if change.value is None:
        return f"no {change.key} declared for {change.server}"
    if change.key == "max_model_len":
        return f"max_model_len <= {change.value:,} for {change.server}"
    return f"{change.key}: {change.value} for {change.server}"


def _remedies(
    problem: Problem, cases: Sequence[Case], host: Host, removes: Callable[[Remedy], bool]
) -> Iterator[Remedy]:
    """Yield of each way to help the mildest that will do."""
    told = [remedy for remedy in problem.remedies if removes(remedy)]
    concerned = [case for case in cases if _concerns(problem, case)]
    shorter = [remedy for case in concerned for remedy in _shorter(case, removes)]
    # Where devices are the matter, other devices are the mildest change; where memory is, a shorter length is.
    found = [*told, *shorter] if problem.code == "plan-placement" else [*shorter, *told]
    for case in concerned:
        found += [r for r in (*_freed(case, removes), *_spread(case, host, removes)) if r not in told]
    yield from found or _more_gpus(concerned, host, removes)


def _concerns(problem: Problem, case: Case) -> bool:
    gpus = [f"GPU {gpu}" for gpu in case.server.gpus or ()]
    return problem.where in ("host", f"server {case.server.name}", *gpus)


def _more_gpus(concerned: Sequence[Case], host: Host, removes: Callable[[Remedy], bool]) -> Iterator[Remedy]:
    """Yield the smallest number of GPUs on which these servers find places, with places and shares left to the plan."""
    freed = [
        Change(case.server.name, key, None)
        for case in concerned
        for key in ("gpus", "gpu_memory_utilization")
        if getattr(case.server, key) is not None
    ]
    counts = range(len(host.gpus or ()) + 1, MOST_GPUS + 1) if host.gpus else ()
    remedies = ((*changes, Change(None, "gpus", count)) for count in counts for changes in ([], freed))
    yield from islice(filter(removes, remedies), 1)


def _freed(case: Case, removes: Callable[[Remedy], bool]) -> Iterator[Remedy]:
    """Yield the share left to the plan."""
    remedy = (Change(case.server.name, "gpu_memory_utilization", None),)
    if case.server.gpu_memory_utilization is not None and removes(remedy):
        yield remedy


def _shorter(case: Case, removes: Callable[[Remedy], bool]) -> Iterator[Remedy]:
    """Yield the greatest length that will do."""
    name, length = case.server.name, case.max_model_len
    if case.server.kind != "llm" or length is None:
        return

    def with_steps(steps: int) -> Remedy:
        return (Change(name, "max_model_len", steps * LENGTH_STEP),)

    low, high = 0, -(-length // LENGTH_STEP)
    while high - low > 1:
        middle = (low + high) // 2 if low else 1
        low, high = (middle, high) if removes(with_steps(middle)) else (low, middle)
    if low:
        yield with_steps(low)


def _spread(case: Case, host: Host, removes: Callable[[Remedy], bool]) -> Iterator[Remedy]:
    """Yield the number of ranks that will do and is nearest to the declared one, with as many GPUs as it needs."""
    server, present = case.server, len(host.gpus or ())
    heads = case.facts.attention_heads if case.facts else 0
    if server.kind != "llm" or not heads or not present:
        return
    freed = [Change(server.name, "gpus", None)] if server.gpus else []
    smaller = [size for size in reversed(SIZES) if size < server.tensor_parallel_size]
    for size in (*smaller, *[size for size in SIZES if size > server.tensor_parallel_size]):
        if heads % size == 0:
            more = [Change(None, "gpus", size)] if size > present else []
            remedy = (Change(server.name, "tensor_parallel_size", size), *freed, *more)
            if removes(remedy):
                yield remedy
                return


def _applied(remedy: Remedy, cases: Sequence[Case], host: Host) -> tuple[list[Case], Host]:
    """Return servers and host as they are after a remedy."""
    changed = {case.server.name: case for case in cases}
    for change in remedy:
        if change.server is None:
            host = host.with_gpus(change.value)
        else:
            value = tuple(change.value) if change.key == "gpus" and change.value is not None else change.value
            changed[change.server] = changed[change.server].with_keys(**{change.key: value})
    return list(changed.values()), host
