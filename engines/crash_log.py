"""Reads from the tail of a server's log why it died."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engines.contract import CrashClass

_SIGNS: tuple[tuple[CrashClass, tuple[str, ...]], ...] = (
    (
        CrashClass.PORT,
        (
            r"address already in use",
            r"\[?Errno 98\]?",
            r"EADDRINUSE",
            r"port is already allocated",
            r"port \d+ is (already )?(in use|not available|unavailable)",
        ),
    ),
    (
        CrashClass.UNSUPPORTED_FLAG,
        (
            r"unrecognized arguments?:",
            r"error: argument --?[\w-]+",
            r"ambiguous option:",
            r"unexpected argument '--",
            r"invalid value '.*' for '--",
            r"the argument '--.*' cannot be used multiple times",
        ),
    ),
    (
        CrashClass.OUT_OF_MEMORY,
        (
            r"(CUDA|HIP|XPU)\b.{0,20} out of memory",
            r"OutOfMemoryError",
            r"Out of memory: Killed",
            r"No available memory for the cache blocks",
            r"larger than the available KV cache memory",
            r"larger than the maximum number of tokens that can be stored in KV cache",
            r"Available memory on node",
            r"is less than desired (GPU|CPU|device) memory utilization",
            r"Not enough memory",
            r"can't allocate memory",
            r"Cannot allocate memory",
            r"\bMemoryError\b",
            r"std::bad_alloc",
            r"CUBLAS_STATUS_ALLOC_FAILED",
        ),
    ),
    (
        CrashClass.INCOMPATIBLE_FLAGS,
        (
            r"validation errors? for \w+Config",
            r"^.*(ValueError|AssertionError|NotImplementedError|ArgumentTypeError|ArgumentError): ?.*"
            r"(not (yet )?(support|compatible|work)|unsupported|incompatible|cannot be used|"
            r"must be|should be|requires?|only (supports?|supported|works?)|divisible|invalid|conflict)",
            r"(ValueError|AssertionError|NotImplementedError): ",
            r"ArgumentValidation\(",
            r"No common block size for",
        ),
    ),
)


_VALIDATION = re.compile(r"(\d+ validation errors? for \w+)\s*\n(?:.*\n)??\s*(?=\S.*\[type=)")
_ASSERTION = re.compile(
    r"^.*?(?P<asserted>assert .+)\n(?:.*\^\s*\n)?(?P<raised>.*AssertionError)$", re.MULTILINE
)
_RAISED = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception): .+|symbol lookup error: .+)")
_HINT = re.compile(r"[Ee]rror\b|[Oo]ut of memory|cannot ")
_ELSEWHERE = re.compile(
    r"[Rr]oot cause above|\(above\) for the root cause|\bWARNING\b|\braise \w|HTTP/\d\.\d\" \d"
)


def telling_line(tail: str) -> str:
    """The line that says most about a death: the last error that does not point elsewhere, or the last.

    An assertion that says nothing of its own is told with what was asserted.
    """
    tail = _told(tail)
    lines = [line.strip() for line in tail.splitlines() if line.strip() and not _ELSEWHERE.search(line)]
    raised = [found[1] for line in lines if (found := _RAISED.search(line))]
    hints = [line for line in lines if _HINT.search(line)]
    return (raised or hints or lines or [""])[-1][:300]


def _told(tail: str) -> str:
    """With errors that are spread over lines on one each."""
    return _ASSERTION.sub(r"\g<raised>: \g<asserted>", _VALIDATION.sub(r"\1: ", tail))


def classify(tail: str, first: Iterable[tuple[CrashClass, str]] = ()) -> CrashClass:
    """The class of a death; `first` holds an engine's own signs (class, regular expression), tried before.

    The whole tail is searched, as engines end with a general line ("core initialization failed, see above").
    """
    tail = _told(tail)
    for crash, sign in first:
        if re.search(sign, tail, re.MULTILINE):
            return crash
    for crash, signs in _SIGNS:
        if any(re.search(sign, tail, re.MULTILINE | re.IGNORECASE) for sign in signs):
            return crash
    return CrashClass.UNKNOWN
