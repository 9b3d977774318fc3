"""One well-known config an engine: what a tuning guide names first. Standard library only."""

from typing import Any

KNOWN: dict[str, dict[str, Any]] = {
    "vllm": {"max-num-seqs": 256, "max-num-batched-tokens": 8192},
    "sglang": {"chunked-prefill-size": 8192, "schedule-policy": "lpm"},
    "tgi": {"max-batch-prefill-tokens": 8192, "cuda-graphs": "1,2,4,8,16,32"},
    "simulated": {"quantization": "fp8", "async-scheduling": True},
}


def config(offer: dict[str, Any]) -> dict[str, Any]:
    """The part of the known config that this engine's space holds and that is not its default.

    Where that leaves nothing, the first flag in the space that can be changed is.
    """
    flags = {flag["name"]: flag for flag in offer["space"]}
    chosen = {
        name: value
        for name, value in KNOWN.get(offer["name"], {}).items()
        if name in flags and value in flags[name]["choices"] and value != flags[name]["default"]
    }
    return chosen or first_change(offer)


def first_change(offer: dict[str, Any]) -> dict[str, Any]:
    """The first unconditional flag at the last choice that is not its default; {} for an empty space."""
    for flag in offer["space"]:
        others = [value for value in flag["choices"] if value != flag["default"]]
        if others and not flag["when"]:
            return {flag["name"]: others[-1]}
    return {}
