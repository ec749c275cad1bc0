"""What llama.cpp reads from our GGUF is what torch trained: tokens, logits and prompts."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is an optional extra")
pytest.importorskip("tokenizers")
pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")

from capabilities.slm.training import arithmetic  # noqa: E402
from capabilities.slm.training.chat import CHAT_TEMPLATE, Example, prompt_ids  # noqa: E402
from capabilities.slm.training.exits import cut_at_exit  # noqa: E402
from capabilities.slm.training.export import export_exits, export_f32, quantize_q8_0  # noqa: E402
from capabilities.slm.training.model import Llama, ModelConfig  # noqa: E402
from capabilities.slm.training.tokenizer import load_tokenizer, special_id  # noqa: E402

TINY = ModelConfig(width=64, layers=3, heads=4, kv_heads=2, feed_forward=96, context=128)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Llama, Path, Path]:
    torch.manual_seed(3)
    model = Llama(TINY).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # logits of a size that a mistake would show in
    folder = tmp_path_factory.mktemp("gguf")
    export_f32(model, folder / "f32.gguf", name="tiny", description="random")
    quantize_q8_0(folder / "f32.gguf", folder / "q8_0.gguf")
    return model, folder / "f32.gguf", folder / "q8_0.gguf"


def load(path: Path) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        str(path), n_ctx=128, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )


@pytest.fixture(scope="module")
def llama(files: tuple[Llama, Path, Path]) -> llama_cpp.Llama:
    return load(files[1])


def test_llama_cpp_computes_the_logits_of_torch(
    files: tuple[Llama, Path, Path], llama: llama_cpp.Llama
) -> None:
    ids = [random.Random(5).randrange(TINY.vocabulary) for _ in range(60)]
    with torch.no_grad():
        expected = files[0](torch.tensor([ids]))[0].numpy()
    llama.reset()
    llama.eval(ids)
    found = np.array(llama.scores[: len(ids)])
    assert np.abs(expected).max() > 5
    np.testing.assert_allclose(found, expected, atol=0.02 * float(np.abs(expected).max()))
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.95


def test_quantized_logits_stay_near(files: tuple[Llama, Path, Path]) -> None:
    ids = [random.Random(6).randrange(TINY.vocabulary) for _ in range(60)]
    with torch.no_grad():
        expected = files[0](torch.tensor([ids]))[0].numpy()
    quantized = load(files[2])
    quantized.eval(ids)
    found = np.array(quantized.scores[: len(ids)])
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).max()
    assert files[2].stat().st_size < files[1].stat().st_size / 2


STRINGS = [
    "What is 48 * 27?",
    "what's 7 minus 19",
    "WHAT'S   1234+ 567 ?\n\n",
    "  leading and trailing  ",
    "tabs\tand\r\nlines\n \n",
    "knowledge.gpt/arithmetic and data.gpt/air_quality/raw",
    '{"steps": [{"id": 1, "name": "x"}]}',
    "48 × 27 ÷ 3 − 1 ≠ ½, naïve Straße, 温度 25℃, 🙂👍🏽",  # noqa: RUF001
    "a4+7+0=11b3+6+1=10r01801",
    "don't WE'LL it'S",
    "",
    "\u00a0\u2003x\u200b",
]


def test_llama_cpp_splits_text_as_the_tokenizer_does(llama: llama_cpp.Llama) -> None:
    rng = random.Random(8)
    letters = "abc XYZ 019 .,;:!?'\"()[]{}<>|/\\+-*=\n\t\r éßñ中🙂"
    noise = ["".join(rng.choice(letters) for _ in range(rng.randrange(1, 60))) for _ in range(300)]
    questions = [arithmetic.sample(rng).question for _ in range(200)]
    tokenizer = load_tokenizer()
    for text in itertools.chain(STRINGS, noise, questions):
        found = llama.tokenize(text.encode(), add_bos=False, special=False)
        assert found == tokenizer.encode(text).ids, repr(text)
        assert llama.detokenize(found, special=True).decode() == text


def test_special_tokens_are_themselves(llama: llama_cpp.Llama) -> None:
    text = "<|system|>x<|end|><|user|>y<|end|><|assistant|><|think|>1<|/think|>2<|end|>"
    found = llama.tokenize(text.encode(), add_bos=False, special=True)
    assert found == load_tokenizer().encode(text).ids
    assert llama.token_eos() == special_id("<|end|>") == 0


def test_the_chat_template_writes_what_the_model_was_trained_on(llama: llama_cpp.Llama) -> None:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    assert llama.metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    formatter = Jinja2ChatFormatter(CHAT_TEMPLATE, eos_token="<|end|>", bos_token="")
    example = Example("what is 1+1?", "", system="Be exact.", history=(("hi", "Hello."),))
    prompt = formatter(
        messages=[
            {"role": "system", "content": "Be exact. "},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "<|think|>hm<|/think|>Hello."},
            {"role": "user", "content": " what is 1+1?\n"},
        ]
    ).prompt
    found = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    assert found == prompt_ids(load_tokenizer(), example)


def test_a_model_cut_at_an_exit_computes_the_logits_of_that_exit(tmp_path: Path) -> None:
    torch.manual_seed(4)
    shape = ModelConfig(width=64, layers=4, heads=2, kv_heads=2, feed_forward=96, exits=(1, 3))
    model = Llama(shape).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)
        for number in shape.exits:
            torch.nn.init.normal_(model.exits[str(number)].map.weight, std=0.125)
            torch.nn.init.uniform_(model.exits[str(number)].norm.weight, 0.5, 2.0)
    main, exits = tmp_path / "m.gguf", tmp_path / "m.exits.gguf"
    export_f32(model, main, name="m", description="random", tasks=("chat",))
    export_exits(model, exits, name="m")
    ids = [random.Random(7).randrange(shape.vocabulary) for _ in range(40)]
    with torch.no_grad():
        states = model.hidden(torch.tensor([ids]))
    for number in shape.exits:
        cut = tmp_path / f"cut{number}.gguf"
        cut_at_exit(main, exits, number, cut)
        part = load(cut)
        part.eval(ids)
        with torch.no_grad():
            expected = model.exit_logits(number, states[number - 1])[0].numpy()
        found = np.array(part.scores[: len(ids)])
        # The head is quantized, the rows are not.
        assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).max()
        assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_a_file_says_what_its_model_was_trained_to_do(tmp_path: Path) -> None:
    from capabilities.slm.training.exits import tasks_of

    model = Llama(TINY)
    export_f32(model, tmp_path / "a.gguf", name="a", description="d", tasks=("plan", "chat"))
    export_f32(model, tmp_path / "b.gguf", name="b", description="d")
    assert tasks_of(tmp_path / "a.gguf") == ("plan", "chat")
    assert tasks_of(tmp_path / "b.gguf") == ()
