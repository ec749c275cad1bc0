"""The memory that a model will take, and its refusal before it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from capabilities.slm import header, memory, protocol
from capabilities.slm.header import Header
from capabilities.slm.llama_engine import LlamaEngine
from mesh.core.errors import ModelError

QWEN = Header(
    {
        "general.architecture": "qwen2",
        "qwen2.embedding_length": 896,
        "qwen2.block_count": 24,
        "qwen2.feed_forward_length": 4864,
        "qwen2.attention.head_count": 14,
        "qwen2.attention.head_count_kv": 2,
    },
    vocabulary=151_936,
)
WEIGHTS = 530_000_000


def test_keys_and_values_take_what_the_heads_say() -> None:
    need = memory.estimate(QWEN, WEIGHTS, context_tokens=4096, batch_tokens=256, rows=36)
    assert need.token == 24 * 2 * (64 + 64) * 2
    assert need.context == 4096 * need.token
    assert WEIGHTS < need.total < WEIGHTS * 1.6


def test_a_longer_context_needs_more() -> None:
    sizes = [
        memory.estimate(QWEN, WEIGHTS, context_tokens=n, batch_tokens=256, rows=4).total
        for n in (512, 4096, 32_768)
    ]
    assert sizes == sorted(sizes)


def test_a_model_that_does_not_fit_is_refused_with_both_sizes() -> None:
    need = memory.estimate(QWEN, WEIGHTS, context_tokens=4096, batch_tokens=256, rows=4)
    memory.refuse_above(need, need.total, "m.gguf")
    with pytest.raises(
        ModelError, match=r"m\.gguf needs about \d+ MB .* and 95 MB are free"
    ) as info:
        memory.refuse_above(need, 100_000_000, "m.gguf")
    assert "smaller quantization" in info.value.hint


def test_it_is_refused_before_native_code_reads_it(
    spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capabilities.slm.llama.Model", None)
    with pytest.raises(ModelError, match="needs about"):
        LlamaEngine(spoken, protocol.Settings(memory_bytes=1_000_000))


def test_small_models_keep_fewer_prefixes_than_large_ones(spoken: Path) -> None:
    large = memory.estimate(QWEN, WEIGHTS, context_tokens=4096, batch_tokens=256, rows=4)
    assert memory.prefix_tokens(large, 4096) == 2048
    small = memory.estimate(
        header.read(spoken), 300_000, context_tokens=4096, batch_tokens=256, rows=4
    )
    assert memory.MIN_PREFIX_TOKENS <= memory.prefix_tokens(small, 4096) < 200
    assert memory.prefix_tokens(small, 100) == 50


def test_a_header_without_sizes_is_no_reason_to_fail() -> None:
    need = memory.estimate(Header(), 1000, context_tokens=64, batch_tokens=8, rows=1)
    assert need.total > 1000
