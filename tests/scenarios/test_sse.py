"""The stream parser: bytes split anywhere give the same stream, and nothing gives an exception."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.load.answer import read_answer
from scenarios.load.spill import Outcome, Record
from scenarios.load.sse import BAD, STREAM_ERROR, EventParser, Stream, Usage, blank, read_stream
from tests.scenarios.mock_server import DONE, delta, event, usage

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(body: bytes) -> bytes:
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def split(data: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [(at, data[start:end]) for at, (start, end) in enumerate(pairwise(places))]


def texts(stream: Stream) -> str:
    return "".join(text for _, text in stream.chunks)


def record(data: bytes, cuts: list[int] | None = None, outcome: Outcome = Outcome.COMPLETE) -> Record:
    pieces = split(data, cuts or [])
    return Record(0, 0, 0, 0, 0, 99, outcome, False, [at for at, _ in pieces], [piece for _, piece in pieces])


@given(
    st.lists(st.text(min_size=1)), st.lists(st.integers(min_value=0)), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_any_split_and_line_end_gives_the_same_stream(words: list[str], cuts: list[int], end: str) -> None:
    body = b": a comment\n\n" + b"".join(map(delta, words)) + usage(3, len(words), 1) + DONE
    stream = read_stream(split(body.replace(b"\n", end.encode()), cuts))
    assert stream.error is None
    assert stream.done
    assert texts(stream) == "".join(word.encode("utf-8", "replace").decode() for word in words)
    assert stream.usage == Usage(3, len(words), 1)


@given(st.lists(st.text(min_size=1)), st.lists(st.integers(min_value=0)))
def test_any_split_of_the_whole_message_gives_the_same_answer(words: list[str], cuts: list[int]) -> None:
    data = chunked(b"".join(map(delta, words)) + DONE)
    answer = read_answer(record(data, cuts))
    assert answer.error is None
    assert answer.status == 200
    assert len(answer.stream.chunks) == len(words)


@given(st.binary(), st.lists(st.integers(min_value=0)))
def test_any_bytes_end_in_an_error_or_not_at_all_in_an_exception(body: bytes, cuts: list[int]) -> None:
    assert read_answer(record(body, cuts, Outcome.BAD_HTTP)).error == "bad-http"
    answer = read_answer(record(chunked(body), cuts))
    assert answer.error is not None or answer.stream.done


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "usage",
                    "error",
                    "index",
                    "finish_reason",
                    "completion_tokens",
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5), st.lists(st.integers(min_value=0)))
def test_any_json_is_read_without_an_exception(messages: list[object], cuts: list[int]) -> None:
    body = b"".join(map(event, messages)) + DONE
    answer = read_answer(record(chunked(body), cuts))
    stream = answer.stream
    assert all(isinstance(text, str) and text for _, text in stream.chunks)
    assert stream.usage.completion is None or stream.usage.completion >= 0
    if answer.error is None:
        assert all(isinstance(message, dict) for message in messages)


@given(st.lists(st.text(min_size=1), min_size=1), st.integers(min_value=0))
def test_a_stream_cut_short_is_never_a_success(words: list[str], cut: int) -> None:
    data = chunked(b"".join(map(delta, words)) + DONE)
    answer = read_answer(record(data[: cut % len(data)], outcome=Outcome.CLOSED))
    assert answer.error == "closed-early"


def test_chunks_carry_the_time_of_the_read_that_completed_them() -> None:
    first, second = delta("one"), delta(" two")
    stream = read_stream([(10, first + second[:9]), (20, second[9:-1]), (30, second[-1:] + DONE)])
    assert stream.chunks == [(10, "one"), (30, " two")]


def test_a_multi_byte_character_may_be_split() -> None:
    data = 'data: {"choices": [{"delta": {"content": "é€😀"}}]}\n\n'.encode() + DONE
    for cut in range(len(data)):
        assert texts(read_stream([(0, data[:cut]), (1, data[cut:])])) == "é€😀"


def test_a_huge_chunk_in_many_reads() -> None:
    text = "word " * 400_000
    data = delta(text) + DONE
    pieces = [(at, data[at : at + 65536]) for at in range(0, len(data), 65536)]
    assert texts(read_stream(pieces)) == text


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'data: {"choices": [{"delta": {"content": NaN}}]}\n\n' + DONE, BAD),
        (b"data: {half\n\n" + DONE, BAD),
        (b"data: [1]\n\n" + DONE, BAD),
        (b"data: \xff\xfe\n\n" + DONE, BAD),
        (b"data: " + b"[" * 200_000 + b"\n\n" + DONE, BAD),
        (event({"choices": "none"}) + DONE, BAD),
        (event({"choices": [{"delta": {"content": 5}}]}) + DONE, BAD),
        (event({"choices": [{"index": 1, "delta": {"content": "b"}}]}) + DONE, BAD),
        (DONE + delta("late"), BAD),
        (delta("a") + event({"error": {"message": "no memory"}}) + DONE, STREAM_ERROR),
        (b'event: error\ndata: {"message": "no memory"}\n\n' + DONE, STREAM_ERROR),
        (b'{"error": {"message": "not a stream"}}', STREAM_ERROR),
        (b'{"choices": [{"message": {"content": "whole"}}]}', BAD),
        (delta("no end"), "closed-early"),
        (b"", "closed-early"),
    ],
)
def test_what_is_no_whole_stream_has_a_code(body: bytes, error: str) -> None:
    assert read_answer(record(chunked(body))).error == error


def test_a_status_other_than_200_is_the_error() -> None:
    answer = read_answer(record(b"HTTP/1.1 429 No\r\nContent-Length: 4\r\n\r\nslow"))
    assert (answer.error, answer.detail) == ("http-429", "slow")


def test_a_body_that_ends_with_its_connection_is_whole_when_it_says_so() -> None:
    said = HEAD + b"Connection: close\r\n\r\n" + delta("all") + DONE
    assert read_answer(record(said, outcome=Outcome.CLOSED)).error is None
    unsaid = HEAD + b"Connection: close\r\n\r\n" + delta("all")
    assert read_answer(record(unsaid, outcome=Outcome.CLOSED)).error == "closed-early"


def test_usage_that_is_no_count_is_no_usage() -> None:
    for count in (-1, 1.5, "7", True, None, 1 << 40):
        stream = read_stream([(0, event({"usage": {"completion_tokens": count}}) + DONE)])
        assert stream.usage.completion is None


def test_reasoning_counts_as_text() -> None:
    body = event({"choices": [{"delta": {"reasoning_content": "think "}}]}) + delta("answer") + DONE
    assert texts(read_stream([(0, body)])) == "think answer"


def test_a_lone_surrogate_does_not_survive() -> None:
    body = b'data: {"choices": [{"delta": {"content": "a\\ud800b"}}]}\n\n' + DONE
    assert texts(read_stream([(0, body)])) == "a?b"
    ended = b'data: {"choices": [{"delta": {}, "finish_reason": "\\ud800"}]}\n\n' + DONE
    assert read_stream([(0, ended)]).finish_reason == "?"


def test_several_data_lines_are_one_event() -> None:
    parser = EventParser()
    assert parser.feed(b'\xef\xbb\xbfevent: x\ndata: {"a":\ndata: 1}\nid: 3\n\n') == [(b"x", b'{"a":\n1}')]
    assert json.loads(b'{"a":\n1}') == {"a": 1}


@pytest.mark.parametrize(
    ("text", "seen"), [("", False), (" \n", False), ("\u200b\u2060", False), ("a", True)]
)
def test_blank(text: str, seen: bool) -> None:
    assert blank(text) is not seen
