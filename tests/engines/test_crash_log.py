"""Why a server died, as the tail of its log tells it: the class, and the line that says most."""

from __future__ import annotations

import pytest

from engines.contract import CrashClass
from engines.crash_log import classify, telling_line
from engines.tgi import TGI
from engines.vllm import Vllm

cases = pytest.mark.parametrize


@cases(
    ("tail", "crash"),
    [
        ("api_server.py: error: unrecognized arguments: --no-such-flag", CrashClass.UNSUPPORTED_FLAG),
        ("api_server.py: error: argument --kv-cache-dtype: invalid choice: 'x'", CrashClass.UNSUPPORTED_FLAG),
        ("error: unexpected argument '--no-such' found", CrashClass.UNSUPPORTED_FLAG),
        ("[Errno 98] error while attempting to bind on address ('127.0.0.1', 80)", CrashClass.PORT),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", CrashClass.OUT_OF_MEMORY),
        ("RuntimeError: CUDA error: out of memory", CrashClass.OUT_OF_MEMORY),
        ("WARNING: lower it if you run out of memory", CrashClass.UNKNOWN),
        (
            "ValueError: To serve at least one request with the model's max seq len (8192), (0.18 GiB KV "
            "cache is needed, which is larger than the available KV cache memory (0.05 GiB).",
            CrashClass.OUT_OF_MEMORY,
        ),
        (
            "ValueError: Available memory on node 0 (20.1/23.5 GiB) on startup is less than desired CPU",
            CrashClass.OUT_OF_MEMORY,
        ),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", CrashClass.OUT_OF_MEMORY),
        ("RuntimeError: Not enough memory. Please try to increase --mem-fraction", CrashClass.OUT_OF_MEMORY),
        ("ValueError: Some option is not compatible with another", CrashClass.INCOMPATIBLE_FLAGS),
        ("AssertionError: block size must be a multiple of 16", CrashClass.INCOMPATIBLE_FLAGS),
        ("RuntimeError: Engine core initialization failed. See root cause above.", CrashClass.UNKNOWN),
        ("Segmentation fault (core dumped)", CrashClass.UNKNOWN),
    ],
)
def test_deaths_are_told_apart(tail: str, crash: CrashClass) -> None:
    assert classify(tail) is crash


def test_the_root_cause_counts_and_not_the_last_line() -> None:
    tail = "\n".join(
        [
            "(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512 MiB",
            "(APIServer pid=1) Traceback (most recent call last):",
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
        ]
    )
    assert Vllm().crash(tail) is CrashClass.OUT_OF_MEMORY


SEEN = {
    "kv-cache-memory-bytes=30000000": (
        """(EngineCore pid=5) ValueError: To serve at least one request with the model's max seq len (8192),
(0.18 GiB KV cache is needed, which is larger than the available KV cache memory (0.03 GiB).
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}
UserWarning: resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown""",
        CrashClass.OUT_OF_MEMORY,
    ),
    "max-num-batched-tokens=64, max-num-seqs=128": (
        """pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig
  Value error, max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (128).
    For further information visit the error's own page""",
        CrashClass.INCOMPATIBLE_FLAGS,
    ),
    "block-size=48": (
        """RuntimeError: Worker failed with error 'No common block size for 48 (CPU_ATTN: [MultipleOf(32)]).'
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}
""",
        CrashClass.INCOMPATIBLE_FLAGS,
    ),
}
"""What vLLM 0.32.0 (CPU build) said of these flags, cut to the lines that matter."""


@cases("said", SEEN.values(), ids=SEEN)
def test_what_vllm_really_said_is_told_apart(said: tuple[str, CrashClass]) -> None:
    assert Vllm().crash(said[0]) is said[1]


ON_A_GPU = {
    "TRITON_ATTN and fp8_e5m2": (
        """(EngineCore pid=7) ERROR 11-27 14:52:16 [core.py:1231]     attn_output = self.attn(q, k, v)
(EngineCore pid=7) ERROR 11-27 14:52:16 [core.py:1231]     assert self.kv_cache_dtype in {"fp8", "fp8_e4m3"}
(EngineCore pid=7) ERROR 11-27 14:52:16 [core.py:1231]            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
(EngineCore pid=7) ERROR 11-27 14:52:16 [core.py:1231] AssertionError
(APIServer pid=5)     raise RuntimeError(
(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.""",
        CrashClass.INCOMPATIBLE_FLAGS,
        'AssertionError: assert self.kv_cache_dtype in {"fp8", "fp8_e4m3"}',
    ),
    "a kernel library that lacks the driver's": (
        """VLLM::EngineCore: symbol lookup error: /envs/x.so: undefined symbol: cuLibraryLoadData
(APIServer pid=9) WARNING 11-27 14:56:34 [core_client.py:702] engine core exited unexpectedly
(APIServer pid=9) ERROR 11-27 [serving.py:812] EngineDeadError: See stack trace (above) for the root cause.
(APIServer pid=9) INFO: 127.0.0.1:40722 - "POST /v1/chat/completions HTTP/1.1" 500 Internal Server Error""",
        CrashClass.UNKNOWN,
        "symbol lookup error: /envs/x.so: undefined symbol: cuLibraryLoadData",
    ),
}
"""What vLLM 0.24.0 said on an H200, cut to the lines that matter."""


@cases("said", ON_A_GPU.values(), ids=ON_A_GPU)
def test_a_death_is_told_by_what_caused_it(said: tuple[str, CrashClass, str]) -> None:
    assert Vllm().crash(said[0]) is said[1]
    assert telling_line(said[0]) == said[2]


def test_tgi_s_own_words_count_first() -> None:
    tail = 'Error: ArgumentValidation("`max_batch_prefill_tokens` must be >= `max_input_tokens`")'
    assert TGI().crash(tail) is CrashClass.INCOMPATIBLE_FLAGS
    assert TGI().crash("Not enough memory to handle 4096 prefill tokens") is CrashClass.OUT_OF_MEMORY
