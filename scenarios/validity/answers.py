"""Checks on what was answered: how many, how long, counted by whom, and from what."""

from __future__ import annotations

import pandas as pd

from scenarios.measurement import Reason
from scenarios.requests import RECOUNT_SHARE, RECOUNT_SLACK
from scenarios.rows import FRESH, REHEARSAL, SCORED, WARMUP
from scenarios.validity.facts import LIMIT, Case
from scenarios.workload import PREFIX

MISMATCHED = 0.05
"""Share of requests whose recount may lie far from usage: a tokenizer's odd texts."""
TOTAL_MISMATCH, TOTAL_SLACK = 0.02, 1.0
"""By how much the recount of all text may differ from all usage: that share, and a token a request."""
UNSPELLED = 1.5
"""Times the tokens that random weights' text shows, as a recount or as chunks, that usage may claim.

Measured on an H100, Mistral-7B shapes: 1.00 to 1.03 tokens a chunk under vLLM and SGLang; a naive PyTorch
server's recount lies 3 to 11 % above usage.
"""
PROMPT_SHARE, PROMPT_SLACK = 0.02, 8
"""By how much the server's count of a prompt may differ from what was cut to length for it."""
CANNED_FROM = 64
"""Answers of so many tokens to different prompts do not come out equal by themselves."""
REPETITIVE = 0.5
SPECULATED = 1.5


def failures(case: Case) -> Reason | None:
    """More than 1 % of the requests failed; one that was never sent has failed."""
    scored = case.scored
    failed = case.asked - int(scored["ok"].sum())
    if failed <= LIMIT * case.asked:
        return None
    kinds = {str(code): int(count) for code, count in scored["error"].value_counts().items()}
    missing = case.asked - len(scored)
    if missing:
        kinds["missing"] = missing
    text = ", ".join(f"{count} {code}" for code, count in kinds.items())
    details = scored.loc[~scored["ok"], "error_detail"].dropna()
    evidence = {"failed": failed, "asked": case.asked, "by_error": kinds, "example": _first(details)}
    return Reason("failures", f"{failed} of {case.asked} requests failed: {text}", evidence)


def short_output(case: Case) -> Reason | None:
    """Answers shorter than asked for."""
    scored = case.scored
    short = scored[scored["short"]]
    return _length("short-output", short, case) or _short_together(case)


def long_output(case: Case) -> Reason | None:
    """Answers longer than asked for."""
    scored = case.scored
    asked, usage = scored["asked_output"].astype(float), scored["usage_completion"].astype(float)
    recount = scored["recount"].astype(float)
    longer = recount > asked * (1 + RECOUNT_SHARE) + RECOUNT_SLACK
    if case.facts.weights == "dummy":
        longer &= False
    claimed = (usage > asked) & scored["agrees"]
    return _length("long-output", scored[scored["ok"] & (longer | claimed)], case)


def no_usage(case: Case) -> Reason | None:
    """Random weights' text cannot be counted, and the server does not say how many tokens it made."""
    answered = case.scored[case.scored["ok"]]
    silent = int(answered["usage_completion"].isna().sum())
    if case.facts.weights != "dummy" or silent <= LIMIT * case.asked:
        return None
    detail = (
        f"{silent} of {case.asked} answers report no usage, and the text of random weights cannot be counted"
    )
    return Reason("no-usage", detail, {"requests": silent})


def token_mismatch(case: Case) -> Reason | None:
    """The server's count of tokens is not the tokenizer's."""
    if case.facts.weights == "dummy":
        return _unspelled(case)
    known = case.scored[case.scored["ok"] & case.scored["usage_completion"].notna()]
    known = known[known["recount"].notna()]
    if known.empty:
        return None
    apart = float((~known["agrees"]).mean())
    recount, usage = float(known["recount"].sum()), float(known["usage_completion"].sum())
    total = abs(recount - usage) / max(recount, 1.0)
    slack = TOTAL_SLACK * len(known) / max(recount, 1.0)
    if apart <= MISMATCHED and total <= TOTAL_MISMATCH + slack:
        return None
    detail = f"the server counts {usage:.0f} output tokens, its text holds {recount:.0f}"
    evidence = {"usage": usage, "recount": recount, "requests_apart": apart}
    return Reason("token-mismatch", detail, evidence)


def prompt_mismatch(case: Case) -> Reason | None:
    """The server counts other prompts than were sent: it cuts them, or feeds them in another template."""
    known = case.scored[case.scored["ok"] & case.scored["usage_prompt"].notna()]
    apart = known["usage_prompt"] - known["asked_input"]
    wrong = known[apart.abs() > PROMPT_SHARE * known["asked_input"] + PROMPT_SLACK]
    if known.empty or len(wrong) <= MISMATCHED * len(known):
        return None
    one = wrong.iloc[0]
    detail = (
        f"{len(wrong)} of {len(known)} prompts have another length to the server: request {one['index']} has "
        f"{one['asked_input']} tokens, the server counts {one['usage_prompt']:.0f}"
    )
    return Reason("prompt-mismatch", detail, {"requests": len(wrong), "median": float(apart.median())})


def duplicate_prompts(case: Case) -> Reason | None:
    """A prompt was sent twice before the probe: the second may have come from a cache."""
    frame = case.reduced.frame
    sent = frame[frame["role"].isin([SCORED, WARMUP, REHEARSAL, FRESH])]
    twice = int(sent["prompt_sha256"].duplicated().sum())
    if not twice:
        return None
    return Reason("duplicate-prompts", f"{twice} prompts were sent more than once", {"duplicates": twice})


def warm_cache(case: Case) -> Reason | None:
    """Prompt tokens came from a cache although no prompt had been sent before."""
    cached = case.scored["cached_tokens"].dropna()
    allowed = case.facts.template_tokens + PREFIX
    over = cached[cached > allowed]
    if len(over) <= LIMIT * case.asked:
        return None
    detail = (
        f"{len(over)} of {case.asked} fresh prompts had up to {over.max():.0f} tokens in the server's cache, "
        f"where they share {case.facts.template_tokens}: a server scored before takes another seed"
    )
    return Reason(
        "warm-cache", detail, {"requests": len(over), "most": float(over.max()), "allowed": allowed}
    )


def canned_text(case: Case) -> Reason | None:
    """Different prompts got the same long answer."""
    whole = case.whole
    long = whole[whole["asked_output"] >= CANNED_FROM]
    if case.facts.weights == "dummy" or len(long) < 2:
        return None
    same = int(long["text_sha256"].duplicated(keep=False).sum())
    if same <= MISMATCHED * len(long):
        return None
    detail = f"{same} of {len(long)} answers are word for word the answer to another prompt"
    return Reason("canned-text", detail, {"same": same, "of": len(long)})


def looping(case: Case) -> Reason | None:
    """Several tokens arrive at a time, varyingly many, while the text repeats itself.

    Then speculation guesses repetitions that the forced length has made, and the speed says nothing about
    text that does not loop. Repetition alone is the model's own and is a metric, not a fault.
    """
    whole = case.whole
    if case.facts.weights == "dummy" or whole.empty:
        return None
    repeated, at_once = float(whole["repetition"].median()), float(whole["per_burst"].median())
    varied = float(whole["burst_spread"].median())
    if not (repeated > REPETITIVE and at_once > SPECULATED and varied > 0.2):
        return None
    detail = f"{at_once:.1f} tokens come at a time while {repeated:.0%} of the text repeats itself"
    return Reason("looping", detail, {"repetition": repeated, "tokens_at_a_time": at_once, "spread": varied})


def _short_together(case: Case) -> Reason | None:
    """Where a server reports no usage, all its text may miss no more than texts as a whole can."""
    scored = case.whole
    silent = scored[scored["usage_completion"].isna() & ~scored["cut"]]
    if silent.empty or case.facts.scenario.length == "natural" or case.facts.weights == "dummy":
        return None
    asked, got = float(silent["asked_output"].sum()), float(silent["tokens"].sum())
    if got >= asked * (1 - TOTAL_MISMATCH) - TOTAL_SLACK * len(silent):
        return None
    detail = f"{len(silent)} answers without usage hold {got:.0f} of the {asked:.0f} tokens asked for"
    return Reason("short-output", detail, {"requests": len(silent), "asked": asked, "recount": got})


def _unspelled(case: Case) -> Reason | None:
    """Random weights' text is far shorter than the server says, by its recount and by its chunks."""
    answered = case.whole[case.whole["usage_completion"].notna() & case.whole["recount"].notna()]
    usage = answered["usage_completion"].astype(float)
    shown = answered[["recount", "chunks"]].astype(float).max(axis=1)
    over = answered[usage > UNSPELLED * shown + RECOUNT_SLACK]
    if len(over) <= LIMIT * case.asked:
        return None
    one = over.iloc[0]
    detail = (
        f"{len(over)} of {case.asked} answers show far fewer tokens than the server counts: "
        f"request {one['index']} has {one['usage_completion']:.0f} by usage, {one['recount']:.0f} by its "
        f"text and {one['chunks']:.0f} chunks"
    )
    return Reason("token-mismatch", detail, {"requests": len(over), "usage": float(usage.sum())})


def _length(code: str, wrong: pd.DataFrame, case: Case) -> Reason | None:
    if len(wrong) <= LIMIT * case.asked:
        return None
    one = wrong.iloc[0]
    detail = (
        f"{len(wrong)} of {case.asked} answers have another length than asked: "
        f"request {one['index']} asked {one['asked_output']} tokens, got {one['tokens']:.0f}"
    )
    evidence = {
        "requests": len(wrong),
        "asked": int(one["asked_output"]),
        "recount": _number(one["recount"]),
        "usage": _number(one["usage_completion"]),
        "finish_reason": None if pd.isna(one["finish_reason"]) else str(one["finish_reason"]),
    }
    return Reason(code, detail, evidence)


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _first(details: pd.Series[str]) -> str | None:
    return str(details.iloc[0]) if len(details) else None
