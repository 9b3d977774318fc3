"""Request sets and tokenizers for tests of the client: made by hand, counted by words."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.scenario import Scenario, Score, Traffic
from scenarios.workload import Request, RequestSet


class Words:
    """Counts words."""

    def chunk_tokens(self, chunks: Sequence[str]) -> list[int]:
        """Words of each chunk."""
        return [len(chunk.split()) for chunk in chunks]


def scenario(*traffics: Traffic, score: Score = Score.ALL) -> Scenario:
    """A scenario of these traffics."""
    return Scenario("D", "a test", score, 10, 20, traffics)


def request_set(
    traffics: Sequence[Traffic], tokens: int = 20, warmup: int = 1, offsets: Sequence[float] = ()
) -> RequestSet:
    """Requests for these traffics. Offsets: those given, else by the traffic's rate, else 0."""
    requests: list[Request] = []
    for traffic in traffics:
        for place in range(traffic.requests):
            offset = None if traffic.kind == "closed" else place / (traffic.rate or float("inf"))
            if offsets and offset is not None:
                offset = offsets[place]
            requests.append(_request(len(requests), traffic.name, tokens, offset))
    warm = tuple(_request(1000 + place, "warmup", tokens, None) for place in range(warmup))
    return RequestSet(warm, tuple(requests), "digest")


def _request(index: int, traffic: str, tokens: int, offset: float | None) -> Request:
    prompt = f"tale {index} of the harbour and of what was seen there in year {index}"
    return Request(index, traffic, prompt, 12, tokens, offset, index)
