"""The senders against a server of known timing: what is sent when, what is stamped, what is written."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios import rows
from scenarios.load.driver import LoadFailed, LoadReport, run
from scenarios.load.entries import turned
from scenarios.load.plan import BadUrl, Send, Stage, Target, share
from scenarios.load.spill import Outcome, Record, SpillReader, pack
from scenarios.scenario import Traffic
from tests.scenarios.mock_server import DONE, Body, Hangup, MockServer, Refuse, Timing, delta
from tests.scenarios.request_sets import Words, request_set, scenario

CLOSED = Traffic("closed", "closed", 12, 3)
BURST = Traffic("burst", "burst", 12, 4)
RATED = Traffic("rated", "constant", 16, None, 40.0)
CAPPED = Traffic("capped", "constant", 12, 2, 200.0)


def load(
    server: MockServer | str,
    out: Path,
    *traffics: Traffic,
    tokens: int = 20,
    senders: int = 1,
    probes: int = 0,
    warmup: int = 1,
    limit: float | None = None,
    stall: float = 60.0,
) -> tuple[LoadReport, pd.DataFrame]:
    report = run(
        server if isinstance(server, str) else server.url,
        request_set(traffics, tokens, warmup),
        scenario(*traffics),
        served_model="mock",
        out=out,
        tokenizer=Words(),
        limit_seconds=limit,
        stall_seconds=stall,
        senders=senders,
        probes=probes,
    )
    frame = rows.read(out)
    return report, frame[frame["role"] == rows.SCORED]


def test_a_closed_loop_keeps_its_concurrency_and_counts_from_the_free_slot(tmp_path: Path) -> None:
    with MockServer() as server:
        _, frame = load(server, tmp_path, CLOSED, warmup=0)
    assert frame["ok"].all()
    assert server.most == 3
    assert (frame["intended"].iloc[:3] == 0).all()
    ends = sorted(frame["end"])
    for intended in frame["intended"].iloc[3:]:
        assert intended in ends
    assert (frame["sent"] - frame["intended"]).quantile(0.5) < 0.003
    assert not frame["connected_late"].any()
    assert server.connections == 3


def test_an_open_loop_keeps_its_schedule(tmp_path: Path) -> None:
    with MockServer() as server:
        _, frame = load(server, tmp_path, RATED)
    assert frame["intended"].tolist() == pytest.approx([place / 40 for place in range(16)], abs=1e-6)
    assert (frame["sent"] - frame["intended"]).median() < 0.003
    assert not frame["connected_late"].any()


@pytest.mark.parametrize("traffic", [BURST, CAPPED])
def test_queueing_for_a_slot_is_inside_the_latency(tmp_path: Path, traffic: Traffic) -> None:
    with MockServer() as server:
        _, frame = load(server, tmp_path, traffic)
    assert server.most == traffic.concurrency
    held = frame[frame["due"] > frame["intended"] + 0.01]
    assert len(held) >= 4
    assert (held["sent"] - held["due"]).median() < 0.003
    last = frame.iloc[-1]
    assert last["intended"] == pytest.approx(11 / 200 if traffic is CAPPED else 0.0, abs=1e-6)
    assert last["sent"] - last["intended"] > 0.1


def test_times_and_tokens_are_what_the_server_did(tmp_path: Path) -> None:
    with MockServer(Timing(ttft=0.05, tpot=0.01, group=4)) as server:
        _, frame = load(server, tmp_path, CLOSED)
    assert (frame["first_content"] - frame["sent"]).median() == pytest.approx(0.05, abs=0.006)
    row = frame.iloc[0]
    assert list(row["chunk_tokens"]) == [4] * 5
    assert row["recount"] == row["usage_completion"] == row["asked_output"] == 20
    spans = frame["chunk_times"].map(lambda times: times[-1] - times[0])
    assert spans.median() == pytest.approx(0.16, abs=0.02)
    assert row["finish_reason"] == "length"
    assert len(row["text"].split()) == 20


def test_every_request_asks_for_its_length_and_for_nothing_else(tmp_path: Path) -> None:
    with MockServer() as server:
        load(server, tmp_path, CLOSED)
    body = server.bodies[-1]
    assert body["max_tokens"] == body["min_tokens"] == 20
    assert body["ignore_eos"] is True
    assert body["temperature"] == 0
    assert body["stream_options"] == {"include_usage": True}
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    assert len(prompts) == len(set(prompts)) == 13


def test_several_senders_share_one_schedule(tmp_path: Path) -> None:
    with MockServer() as server:
        report, frame = load(server, tmp_path, RATED, CLOSED, senders=2)
    assert report.senders == 2
    assert len(frame) == 28
    assert frame["ok"].all()
    rated = frame[frame["traffic"] == "rated"]
    assert (rated["sent"] - rated["intended"]).median() < 0.005
    assert server.most >= 3


def test_the_probe_sends_unseen_prompts_and_then_seen_ones_again(tmp_path: Path) -> None:
    with MockServer() as server:
        load(server, tmp_path, CLOSED, tokens=60, probes=2)
    probe = rows.read(tmp_path).query("traffic == 'probe'")
    assert probe["role"].tolist() == [rows.FRESH] * 2 + [rows.REPEAT] * 2
    assert probe["asked_output"].tolist() == [16, 16, 60, 60]
    repeats = probe[probe["role"] == rows.REPEAT]
    assert repeats["cut"].all()
    assert repeats["ok"].all()
    assert repeats["chunks"].between(32, 40).all()
    sent = [body["messages"][0]["content"] for body in server.bodies]
    assert sorted(sent).count(sent[-1]) == 2
    assert sent.count(sent[-3]) == 1


def test_a_server_that_closes_connections_makes_nobody_wait(tmp_path: Path) -> None:
    with MockServer(keep_alive=False) as server:
        _, frame = load(server, tmp_path, CLOSED)
    assert frame["ok"].all()
    assert frame["connected_late"].sum() <= 2
    assert (frame["sent"] - frame["intended"]).median() < 0.003


async def _refuse(body: Body) -> AsyncGenerator[bytes, None]:
    raise Refuse(503)
    yield b""


async def _hang_up(body: Body) -> AsyncGenerator[bytes, None]:
    yield delta("one")
    raise Hangup


async def _endless(body: Body) -> AsyncGenerator[bytes, None]:
    yield delta("one")
    while True:
        await asyncio.sleep(0.05)
        yield b": still here\n\n"


async def _silent(body: Body) -> AsyncGenerator[bytes, None]:
    if "tale 5 " in body["messages"][0]["content"]:
        await asyncio.sleep(30)
    yield delta("one two")
    yield DONE


def test_a_refusal_is_a_row_and_is_not_tried_again(tmp_path: Path) -> None:
    with MockServer(_refuse) as server:
        _, frame = load(server, tmp_path, CLOSED, warmup=0)
    assert frame["error"].tolist() == ["http-503"] * 12
    assert len(server.bodies) == 12


def test_a_connection_that_closes_mid_stream_is_a_failure(tmp_path: Path) -> None:
    with MockServer(_hang_up) as server:
        _, frame = load(server, tmp_path, CLOSED, warmup=0)
    assert frame["error"].tolist() == ["closed-early"] * 12


def test_nobody_there(tmp_path: Path) -> None:
    with MockServer() as server:
        url = server.url
    _, frame = load(url, tmp_path, CLOSED, warmup=0)
    assert frame["error"].tolist() == ["connect"] * 12


def test_the_limit_ends_what_flies_and_what_was_not_sent(tmp_path: Path) -> None:
    began = time.monotonic()
    with MockServer(_endless) as server:
        _, frame = load(server, tmp_path, CLOSED, warmup=0, limit=0.5)
    assert time.monotonic() - began < 5
    assert frame["error"].value_counts().to_dict() == {"timeout": 3, "unsent": 9}


def test_a_silent_request_is_given_up_when_others_are_answered(tmp_path: Path) -> None:
    with MockServer(_silent) as server:
        _, frame = load(server, tmp_path, CLOSED, warmup=0, stall=0.5)
    assert frame["error"].dropna().tolist() == ["timeout"]
    assert frame["ok"].sum() == 11


LONG = """
import sys
from pathlib import Path
from scenarios.load.driver import run
from scenarios.scenario import Traffic
from tests.scenarios.request_sets import Words, request_set, scenario

traffic = Traffic("closed", "closed", 4000, 8)
out = Path(sys.argv[2])
run(sys.argv[1], request_set([traffic], 5), scenario(traffic), served_model="mock", out=out,
    tokenizer=Words(), patience=0.2)
"""


def test_a_killed_scorer_leaves_rows_and_no_sender(tmp_path: Path) -> None:
    with MockServer(Timing(ttft=0.02, tpot=0.001)) as server:
        driver = subprocess.Popen([sys.executable, "-c", LONG, server.url, str(tmp_path)])
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("part-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        senders = psutil.Process(driver.pid).children(recursive=True)
        assert len(senders) == 1
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait(5)
        assert not psutil.wait_procs(senders, timeout=5)[1]
    frame = rows.read(tmp_path)
    assert 0 < len(frame) < 4000
    assert frame["ok"].all()
    assert frame["key"].is_unique


def test_a_sender_that_dies_is_the_clients_fault(tmp_path: Path) -> None:
    def kill() -> None:
        for child in psutil.Process().children(recursive=True):
            if "scenarios.load.sender" in " ".join(child.cmdline()):
                child.kill()

    with MockServer(_endless) as server, pytest.raises(LoadFailed, match="ended early"):
        run(
            server.url,
            request_set([CLOSED]),
            scenario(CLOSED),
            served_model="mock",
            out=tmp_path,
            on_stage=lambda stage: threading.Timer(0.3, kill).start(),
        )


@given(
    st.lists(st.tuples(st.integers(0, 2**60), st.binary(max_size=200)), max_size=6),
    st.sampled_from(Outcome),
    st.integers(0, 400),
)
@settings(max_examples=60)
def test_records_come_back_from_a_spill_and_a_torn_one_waits(
    reads: list[tuple[int, bytes]], outcome: Outcome, torn: int
) -> None:
    record = Record(7, 2, 5, 6, 7, 9, outcome, True, [at for at, _ in reads], [data for _, data in reads])
    frame = pack(record)
    cut = torn % len(frame)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "spill"
        path.write_bytes(frame + frame[:cut])
        reader = SpillReader(path)
        assert list(reader) == [record]
        assert reader.waiting == cut
        with path.open("ab") as file:
            file.write(frame[cut:])
        assert list(reader) == [record]


def test_shares_of_a_schedule_are_the_schedule() -> None:
    sends = tuple(Send(key, key, 0, 1) for key in range(11))
    parts = [share([Stage("x", False, 5, sends)], number, 3)[0] for number in range(3)]
    assert sorted(send.key for part in parts for send in part.sends) == list(range(11))
    assert sum(part.cap or 0 for part in parts) == 5
    narrow = [share([Stage("x", True, 1, sends)], number, 3)[0] for number in range(3)]
    assert [len(part.sends) for part in narrow] == [11, 0, 0]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://host/prefix/v1", "https://host:443/prefix"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses(url: str, base: str) -> None:
    assert Target.parse(url).base == base


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://host:99999"])
def test_a_bad_address_is_one_line(url: str) -> None:
    with pytest.raises(BadUrl, match="write http://HOST:PORT"):
        Target.parse(url)


def test_a_turned_prompt_is_as_long_and_begins_otherwise() -> None:
    prompt = "one two three four five six seven eight"
    assert sorted(turned(prompt).split()) == sorted(prompt.split())
    assert turned(prompt).split()[0] != "one"
