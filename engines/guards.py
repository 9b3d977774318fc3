"""Static guards: what can be known to fail before a server is launched. Each raises Infeasible."""

from __future__ import annotations

from engines.contract import Infeasible
from engines.host import Host
from engines.model_shape import ModelShape

GIB = 1 << 30


def devices_there(wanted: int, host: Host) -> None:
    """The host has as many devices as the config asks for."""
    if wanted > len(host.devices):
        raise Infeasible(
            f"the config needs {wanted} devices, this host has {len(host.devices)}: lower the parallel sizes"
        )


def heads_divide(shape: ModelShape, ranks: int, flag: str) -> None:
    """Attention heads split evenly over tensor-parallel ranks; KV heads split or are repeated evenly."""
    if shape.heads % ranks:
        raise Infeasible(f"{flag}={ranks} does not divide the model's {shape.heads} attention heads")
    if shape.kv_heads % ranks and ranks % shape.kv_heads:
        raise Infeasible(f"{flag}={ranks} does not divide the model's {shape.kv_heads} KV heads")


def length_fits(shape: ModelShape, asked: int | None, flag: str) -> None:
    """The context asked for is within the model's own."""
    if asked is not None and asked > shape.max_length:
        raise Infeasible(f"{flag}={asked} is above the model's own {shape.max_length} tokens")


def one_request_fits(weights: float, kv: float, room: float, remedy: str) -> None:
    """Weights and the KV cache of one request of full length fit into `room` (bytes, over all ranks)."""
    if weights + kv > room:
        raise Infeasible(
            f"weights ({weights / GIB:.1f} GiB) and the KV cache of one request of full length "
            f"({kv / GIB:.1f} GiB) exceed the {room / GIB:.1f} GiB there: {remedy}"
        )
