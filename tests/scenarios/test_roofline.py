"""The roofline against figures worked out by hand, on shapes of a known model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from engines.contract import Model
from engines.model_shape import shape_of
from scenarios.roofline import Ideal, Roofline, _bounds, against, roofline
from scenarios.scenario import Scenario, Score, Traffic
from tests.engines.hosts import CPU, H100, H100_X4, gpus
from tests.scenarios.made_rows import TPOT, TTFT, reduced, row

MISTRAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32768,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
LAYERS = 32 * (4096 * 128 * 80 + 3 * 4096 * 14336)
HEAD = 32768 * 4096


def model(tmp_path: Path, **changes: object) -> Model:
    (tmp_path / "config.json").write_text(json.dumps({**MISTRAL, **changes}))
    return Model(tmp_path, "shapes", weights="dummy")


def ideal(tmp_path: Path) -> Ideal:
    bound = roofline(model(tmp_path), H100)
    assert bound is not None and bound.ideal is not None
    return bound.ideal


def test_parameters_of_mistral_7b(tmp_path: Path) -> None:
    shape = shape_of(model(tmp_path))
    assert shape is not None
    assert (shape.active, shape.head) == (LAYERS, HEAD)
    assert shape.parameters == LAYERS + 2 * HEAD == pytest.approx(7.25e9, rel=0.001)


def test_of_several_experts_a_token_passes_the_chosen_ones(tmp_path: Path) -> None:
    shape = shape_of(model(tmp_path, num_local_experts=8, num_experts_per_tok=2))
    assert shape is not None
    assert shape.parameters == pytest.approx(46.7e9, rel=0.01)
    assert shape.active + 2 * shape.head == pytest.approx(12.9e9, rel=0.01)


def test_experts_have_a_width_of_their_own_and_bound_only_what_a_token_passes(tmp_path: Path) -> None:
    shape = shape_of(
        model(
            tmp_path,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=768,
            hidden_size=2048,
            num_hidden_layers=48,
            num_attention_heads=32,
            num_key_value_heads=4,
            head_dim=128,
            vocab_size=151936,
            intermediate_size=6144,
        )
    )
    assert shape is not None
    assert shape.parameters == pytest.approx(30.5e9, rel=0.02), "Qwen3-30B-A3B"
    assert shape.active + 2 * shape.head == pytest.approx(3.3e9, rel=0.05)
    bound = _bounds(shape, 1e12, 1e15, CPU.devices)
    assert bound.prefill_token == pytest.approx(2 * (shape.active + shape.head) / 1e15)


def test_decode_is_bound_by_bandwidth_and_prefill_by_arithmetic(tmp_path: Path) -> None:
    bound = ideal(tmp_path)
    weights, kv = 2 * (LAYERS + HEAD), 2 * 32 * 8 * 128 * 2
    assert bound.token(np.array([1000.0]))[0] == pytest.approx((weights + 1000 * kv) / 3.35e12)
    operations = 2 * LAYERS * 8192 + 2 * HEAD + 4 * 32 * 4096 * 8192 * 8193 / 2
    assert bound.first_token(np.array([8192.0]))[0] == pytest.approx(operations / 0.989e15)
    assert bound.first_token(np.array([8.0]))[0] == pytest.approx(weights / 3.35e12)


def test_requests_a_second_share_the_weights(tmp_path: Path) -> None:
    bound = ideal(tmp_path)
    prompt, output = np.full(64, 1024.0), np.full(64, 256.0)
    weights, kv = 2 * (LAYERS + HEAD), 2 * 32 * 8 * 128 * 2
    moved = 255 * (weights / 64 + 1152 * kv)
    assert bound.rate(prompt, output, 64) == pytest.approx(3.35e12 / moved)
    alone = 1 / bound.alone(prompt[:1], output[:1])[0]
    assert bound.rate(prompt, output, 1) == pytest.approx(alone)
    assert bound.rate(prompt, output, 4) < 4 * alone * 1.0001


def test_two_devices_are_twice_as_quick(tmp_path: Path) -> None:
    one, four = roofline(model(tmp_path), H100), roofline(model(tmp_path), H100_X4)
    two = roofline(model(tmp_path), H100_X4, H100_X4.devices[:2])
    assert one and two and four
    assert (one.step, one.prefill_token) == (2 * two.step, 2 * two.prefill_token)
    assert one.step == 4 * four.step
    assert one.ideal and two.ideal and two.ideal.flops == 2 * one.ideal.flops


def test_a_window_spares_work(tmp_path: Path) -> None:
    bound = roofline(model(tmp_path, sliding_window=1024), H100)
    assert bound is not None and bound.ideal is not None
    whole = ideal(tmp_path)
    short, long = np.array([512.0]), np.array([8192.0])
    assert bound.ideal.prefill(short)[0] == whole.prefill(short)[0]
    assert bound.ideal.prefill(long)[0] < whole.prefill(long)[0]
    assert bound.ideal.token(long)[0] == bound.ideal.token(np.array([1024.0]))[0]


def test_weights_on_disk_count_as_they_are(tmp_path: Path) -> None:
    subject = model(tmp_path, hidden_size=64, intermediate_size=64, num_hidden_layers=1, vocab_size=64)
    shape = shape_of(subject)
    assert shape is not None
    (tmp_path / "model.safetensors").write_bytes(b"\0" * (shape.parameters // 2))
    quantised = roofline(Model(tmp_path, "four bits"), H100)
    assert quantised is not None and quantised.ideal is not None
    assert quantised.ideal.weights == pytest.approx((shape.active + shape.head) / 2, rel=0.01)


def test_a_cpu_has_bounds_and_no_ideal(tmp_path: Path) -> None:
    bound = roofline(model(tmp_path), CPU)
    assert bound is not None and bound.ideal is None and bound.step > 0
    assert roofline(model(tmp_path), gpus("Some Other GPU", 16)) is None
    assert against(reduced([row(0)]), scenario(Score.TTFT), bound, 5.0) == {}
    assert against(reduced([row(0)]), scenario(Score.TTFT), None, 5.0) == {}


def test_it_survives_json(tmp_path: Path) -> None:
    for host in (H100, CPU):
        bound = roofline(model(tmp_path), host)
        assert bound is not None
        assert Roofline.from_json(json.loads(json.dumps(asdict(bound)))) == bound
    assert Roofline.from_json({"step": 1.0, "prefill_token": 2.0, "device": "old"}).ideal is None


def scenario(kind: Score, traffic: str = "closed", concurrency: int | None = 1) -> Scenario:
    return Scenario("A", "x", kind, 100, 20, (Traffic("closed", "closed", 4, concurrency),))


PEAK = Ideal(1e12, 1e15, 2e9, 2e9, 0.0, 0.0, 0.0, None, "made up")
"""A model of 1e9 parameters: 2 ms a step, and a prompt of 100 tokens is read, not computed: 2 ms."""


def test_scores_as_fractions() -> None:
    rows = reduced([row(key) for key in range(4)])
    bound = Roofline(0.0, 0.0, "made up", PEAK)
    for kind, score, fraction in (
        (Score.TTFT, 1 / TTFT, 0.002 / TTFT),
        (Score.TPOT, 1 / TPOT, 0.002 / TPOT),
        (Score.THROUGHPUT, 1.0, 0.04),
        (Score.ALL, (1 / TTFT / TPOT) ** (1 / 3), (0.002 / TTFT * 0.002 / TPOT * 0.04) ** (1 / 3)),
    ):
        figures = against(rows, scenario(kind), bound, score)
        assert figures["of_roofline"] == pytest.approx(fraction), kind
    assert figures["roofline_ttft"] == figures["roofline_tpot"] == pytest.approx(0.002)
    assert figures["roofline_req_per_s"] == pytest.approx(1 / (20 * 0.002))
    assert "of_roofline" not in against(rows, scenario(Score.ALL), bound, None)


def test_no_more_requests_are_served_than_arrive() -> None:
    rows = reduced([row(key, traffic="poisson", intended=key * 0.5) for key in range(11)])
    shape = Scenario("C", "x", Score.THROUGHPUT, 100, 20, (Traffic("poisson", "poisson", 11, 4, 2.0),))
    figures = against(rows, shape, Roofline(0.0, 0.0, "made up", PEAK), 2.0)
    assert figures["roofline_req_per_s"] == pytest.approx(11 / (5.0 + 0.04))
