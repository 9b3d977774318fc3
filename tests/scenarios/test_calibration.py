"""What the client says of this machine."""

from __future__ import annotations

from scenarios.load.calibration import Calibration, calibrate


def test_a_machine_is_measured() -> None:
    made = calibrate(1.0)
    assert 1e-6 < made.token_seconds < 1e-3
    assert made.token_seconds < made.request_seconds < 1e-2
    assert -1e-4 < made.bias_p50 < 0.02
    assert made.bias_p50 <= made.bias_p99 < 0.2
    assert made.streams == int(made.tokens_per_second / 50)


def test_headroom() -> None:
    made = Calibration(1e-5, 1e-4, 0.0, 0.0, 0.0)
    assert made.tokens_per_second == 90_000
    assert made.requests_per_second == 9_000
    assert made.headroom(9_000.0) == 10
    assert made.headroom(9_000.0, senders=2) == 20
    assert made.headroom(0.0) == float("inf")
