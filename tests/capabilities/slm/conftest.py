"""Tiny models made on the spot, so that no test needs a file from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest

from capabilities.messages import Delta, TokenLogprob
from capabilities.slm import llama
from tests.capabilities.slm.driving import Driven

SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|think|>", "<|/think|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 256
HEADS = 4


def byte_symbols() -> list[str]:
    """The printable symbol of each byte in a byte-level BPE vocabulary, as GPT-2 defined it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(extra)) for b in range(256)]


VOCABULARY = [*byte_symbols(), "th", *SPECIAL]


def token(symbol: str) -> int:
    """The id of a special token, or of a character of one byte."""
    return VOCABULARY.index(symbol) if len(symbol) > 1 else ord(symbol)


def tokens(*parts: str) -> list[int]:
    """Ids of texts, byte by byte, and of special tokens."""
    ids: list[int] = []
    for part in parts:
        ids += [token(part)] if part in SPECIAL else list(part.encode())
    return ids


def write_model(
    path: Path,
    *,
    width: int,
    layers: int,
    weights: dict[str, np.ndarray],
    rng: np.random.Generator,
    scale: float,
    pre: str = "qwen2",
    template: str = TEMPLATE,
) -> Path:
    """A GGUF of the Llama architecture; matrices not given are random, or zero at scale 0."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(path.stem)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    kinds = [gguf.TokenType.NORMAL] * (len(VOCABULARY) - len(SPECIAL))
    writer.add_token_types(kinds + [gguf.TokenType.CONTROL] * len(SPECIAL))
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(token("<|end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)

    def matrix(name: str, rows: int, columns: int) -> None:
        given = weights.get(name)
        values = rng.normal(0, scale, (rows, columns)) if given is None else given
        writer.add_tensor(name, values.astype(np.float32))

    matrix("token_embd.weight", len(VOCABULARY), width)
    for i in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{norm}.weight", np.ones(width, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{i}.{name}.weight", width, width)
        matrix(f"blk.{i}.ffn_gate.weight", 2 * width, width)
        matrix(f"blk.{i}.ffn_up.weight", 2 * width, width)
        matrix(f"blk.{i}.ffn_down.weight", width, 2 * width)
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    matrix("output.weight", len(VOCABULARY), width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_chain(path: Path, reply: list[int], *, loop: bool = False, pre: str = "qwen2") -> Path:
    """A model that always answers ``reply``, or repeats it for ever.

    Its blocks are zero, its embeddings one-hot, and its output matrix says which token follows
    which: a Markov chain, so no token may stand twice in ``reply``.
    """
    width = -(-len(VOCABULARY) // 32) * 32
    follow = np.zeros((len(VOCABULARY), width))
    before = [token("<|assistant|>"), *reply]
    after = [*reply, reply[0] if loop else token("<|end|>")]
    for one, next_one in zip(before, after, strict=True):
        follow[next_one, one] = 10 / np.sqrt(width)  # a logit of 10, the others 0
    weights = {
        "token_embd.weight": np.eye(len(VOCABULARY), width),
        "output.weight": follow,
    }
    rng = np.random.default_rng(0)
    return write_model(path, width=width, layers=1, weights=weights, rng=rng, scale=0.0, pre=pre)


def write_embedder(path: Path) -> Path:
    """A random model of the BERT architecture: it embeds and cannot generate."""
    width, context, rng = 32, 64, np.random.default_rng(5)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *("\u2581" + c for c in letters), *letters]
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name(path.stem)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(0)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(words)
    control = gguf.TokenType.CONTROL
    writer.add_token_types([control] * 4 + [gguf.TokenType.NORMAL] * (len(words) - 4))
    writer.add_token_type_count(2)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)

    def put(name: str, *shape: int, norm: bool = False) -> None:
        values = np.ones(shape) if norm else rng.normal(0, 0.3, shape)
        writer.add_tensor(name, values.astype(np.float32))

    put("token_embd.weight", len(words), width)
    put("token_types.weight", 2, width)
    put("position_embd.weight", context, width)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        put(f"blk.0.{name}.weight", width, width)
        put(f"blk.0.{name}.bias", width)
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        put(f"{name}.weight", width, norm=True)
        put(f"{name}.bias", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models below."""
    folder = tmp_path_factory.mktemp("models")
    write_chain(folder / "spoken.gguf", tokens("<|think|>", "hm", "<|/think|>", "naïve ok!"))
    write_chain(folder / "endless.gguf", tokens("abc "), loop=True)
    write_chain(folder / "recursing.gguf", tokens("ok"), pre="deepseek-llm")
    write_embedder(folder / "embedder.gguf")
    write_model(
        folder / "random.gguf",
        width=64,
        layers=2,
        weights={},
        rng=np.random.default_rng(7),
        scale=0.25,
    )
    write_model(
        folder / "tooled.gguf",
        width=32,
        layers=1,
        weights={},
        rng=np.random.default_rng(8),
        scale=0.25,
        template="{% if tools %}{{ tools | tojson }}{% endif %}" + TEMPLATE,
    )
    return folder


@pytest.fixture(scope="session")
def spoken(models: Path) -> Path:
    """Thinks "hm", then says "naïve ok!" and ends."""
    return models / "spoken.gguf"


@pytest.fixture(scope="session")
def endless(models: Path) -> Path:
    """Says "abc abc abc " for ever."""
    return models / "endless.gguf"


@pytest.fixture(scope="session")
def random_model(models: Path) -> Path:
    """Random weights whose answer depends on the whole prompt."""
    return models / "random.gguf"


@pytest.fixture(scope="session")
def tooled(models: Path) -> Path:
    """Random weights, and a template that offers tools."""
    return models / "tooled.gguf"


@pytest.fixture(scope="session")
def recursing(models: Path) -> Path:
    """Says "ok"; its tokenizer overflows the stack on a very long word."""
    return models / "recursing.gguf"


@pytest.fixture(scope="session")
def embedder(models: Path) -> Path:
    """Embeds and cannot generate."""
    return models / "embedder.gguf"


NEAR_TIE = 0.05  # in logits; half-precision caches differ by less between batch and solo


def same_until_a_tie(alone: Iterable[object], together: Iterable[object]) -> None:
    """Two greedy answers with two logprobs each agree, except after a near tie."""

    def chosen(events: Iterable[object]) -> list[TokenLogprob]:
        return [one for e in events if isinstance(e, Delta) for one in e.logprobs]

    for one, other in zip(chosen(alone), chosen(together), strict=False):
        if one.top[0][1] - one.top[1][1] < NEAR_TIE:
            return
        assert one.token == other.token


@pytest.fixture
def agree() -> Callable[[Iterable[object], Iterable[object]], None]:
    """Asserts that two answers are the same."""
    return same_until_a_tie


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """After the test no child process of this one is left that was not there before."""
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    yield
    left = [c for c in me.children(recursive=True) if c.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not alive, f"{len(alive)} processes left behind"


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    llama.start(lambda _level, _text: None)
    made: list[Driven] = []

    def make(path: Path, **settings: int) -> Driven:
        made.append(Driven(path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.engine.close()
