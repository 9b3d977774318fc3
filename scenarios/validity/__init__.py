"""Whether a measurement can be believed: every reason against it has a code and its evidence."""

from scenarios.measurement import Reason
from scenarios.requests import Reduced
from scenarios.roofline import Roofline
from scenarios.validity import answers, client, company, quality, stream, text
from scenarios.validity.facts import Case, Check, Facts

CODES: dict[str, str] = {
    "failures": "more than 1 % of the requests failed or were never sent",
    "short-output": "answers are shorter than asked for",
    "long-output": "answers are longer than asked for",
    "no-usage": "with random weights the server alone can count tokens, and it does not say",
    "token-mismatch": "the server's count of tokens is not the tokenizer's",
    "prompt-mismatch": "the server counts other prompts than were sent",
    "client-lag": "the client was too slow for its own schedule",
    "schedule": "arrivals do not have the rate or the dispersion of their kind",
    "duplicate-prompts": "a prompt was sent more than once",
    "warm-cache": "fresh prompts were answered from a cache",
    "blank-first-token": "answers begin with a blank chunk long before any text",
    "first-token-cadence": "the first token comes sooner than the prompt can have been processed",
    "impossible-speed": "faster than the server alone, or than the device allows",
    "repeat-cache": "a request sent again is answered without decoding",
    "looping": "the speed rests on guessing text that repeats itself",
    "canned-text": "different prompts got the same answer",
    "text-not-from-model": "answers that the model itself would not have given",
    "quality": "answers to questions in the traffic are worse than the baseline's",
    "unreachable": "the server did not answer after the run",
    "server-changed": "the server says something else of itself after the run, or is another process",
    "other-process": "another process had the device during the run",
    "clock-skew": "the server dates its answers otherwise than this machine's clock",
    "concurrency": "fewer requests were in flight than the profile says",
    "held-back": "content was kept and released together",
}
"""Code -> what it means, in one line."""

CHECKS: tuple[Check, ...] = (
    client.unreachable,
    client.server_changed,
    company.restarted,
    company.other_process,
    answers.failures,
    answers.short_output,
    answers.long_output,
    answers.no_usage,
    answers.token_mismatch,
    answers.prompt_mismatch,
    client.client_lag,
    client.schedule,
    client.concurrency,
    client.clock_skew,
    answers.duplicate_prompts,
    answers.warm_cache,
    stream.repeat_cache,
    stream.blank_first_token,
    stream.first_token_cadence,
    stream.held_back,
    stream.impossible_speed,
    answers.looping,
    answers.canned_text,
    text.not_from_model,
    quality.worse,
    quality.below_tau,
)


def judge(reduced: Reduced, facts: Facts) -> tuple[Reason, ...]:
    """All reasons against a measurement, the gravest first; empty when it is valid."""
    case = Case(reduced, facts)
    found = (check(case) for check in CHECKS)
    return tuple(reason for reason in found if reason is not None)


__all__ = ["CHECKS", "CODES", "Case", "Facts", "Roofline", "judge"]
