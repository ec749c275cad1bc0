"""Exits of a frozen model learn what the layers behind them say, and how far to be believed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training is an optional extra")
pytest.importorskip("tokenizers")
pytest.importorskip("gguf")

from capabilities.segments import calibration  # noqa: E402
from capabilities.slm import header  # noqa: E402
from capabilities.slm.training import calibrating, exit_tuning  # noqa: E402
from capabilities.slm.training.batches import IGNORE, make_batch  # noqa: E402
from capabilities.slm.training.chat import Example, prompt_ids  # noqa: E402
from capabilities.slm.training.exits import exits_of  # noqa: E402
from capabilities.slm.training.harness import TrainingConfig, train  # noqa: E402
from capabilities.slm.training.model import Llama, ModelConfig  # noqa: E402
from capabilities.slm.training.tokenizer import END, load_tokenizer, special_id  # noqa: E402

SHAPE = ModelConfig(width=32, layers=3, heads=2, kv_heads=2, feed_forward=64)
BRIEF: dict[str, Any] = {"seconds": 600.0, "seed": 1, "steps": 100, "rows": 200}
EXAMPLES = [
    Example("who are you?", "A node of a mesh.", category="one"),
    Example("what is 2 + 2?", "It is 4.", category="one"),
]


def draw(rng: object) -> Example:
    return EXAMPLES[rng.randrange(len(EXAMPLES))]  # type: ignore[attr-defined,no-any-return]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a model that knows its two answers."""
    folder = tmp_path_factory.mktemp("run")
    config = TrainingConfig(
        steps=100, batch_tokens=256, warmup_steps=5, evaluate_every=100, model=SHAPE, bfloat16=False
    )
    train(config, draw, EXAMPLES, folder)
    return folder / "checkpoint.pt"


def model_of(path: Path) -> Llama:
    return exit_tuning.with_exits(exit_tuning.load_checkpoint(path), (1, 2))


def agreement(model: Llama, number: int) -> float:
    batch = make_batch(load_tokenizer(), EXAMPLES)
    keep = batch.targets != IGNORE
    with torch.no_grad():
        states = model.hidden(batch.ids)
        early = model.exit_logits(number, states[number - 1][keep]).argmax(-1)
        whole = model.logits(states[-1][keep]).argmax(-1)
    return float((early == whole).float().mean())


def test_exits_learn_to_say_what_the_whole_model_says_and_nothing_else_moves(
    trained: Path,
) -> None:
    model = model_of(trained)
    torch.nn.init.zeros_(model.exit(1).map.weight)
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("exits")}
    first = agreement(model, 1)
    lines: list[dict[str, float]] = []
    exit_tuning.tune(model, draw, **BRIEF, log=lines.append)
    assert first < 0.2
    assert agreement(model, 1) > 0.5
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert {"rows", "elapsed_s"} <= set(lines[0])
    assert {"loss_1", "sure_2", "agree_2"} <= set(lines[1])


def test_exits_that_a_model_has_are_kept_and_others_begin_as_its_head(trained: Path) -> None:
    model = model_of(trained)
    with torch.no_grad():
        model.exit(1).map.weight.mul_(2.0)
    grown = exit_tuning.with_exits(model, (1,))
    assert torch.equal(grown.exit(1).map.weight, model.exit(1).map.weight)
    assert torch.equal(grown.exit(1).norm.weight, model.exit(1).norm.weight)
    with pytest.raises(ValueError, match="after 1 to 2"):
        exit_tuning.with_exits(model, (3,))


def test_what_an_exit_says_otherwise_bounds_how_far_it_is_believed(trained: Path) -> None:
    model = model_of(trained)
    exit_tuning.tune(model, draw, **BRIEF)
    with torch.no_grad():
        model.exit(1).map.weight.mul_(-8.0)  # very sure, and never right
    found = calibrating.calibrated(model, draw, answers=400)
    assert found[1].confidence(-1e-4) < 0.8
    assert found[1].parted <= 0.01
    assert found[2].sure > 0.5
    assert found[2].answers == 400
    assert found[2].tokens > 400
    assert calibrating.calibrated(model, draw, answers=0) == {}


@pytest.mark.parametrize("passes", [3, 100])
def test_own_answers_are_what_greedy_decoding_writes_token_by_token(passes: int) -> None:
    torch.manual_seed(4)
    shape = ModelConfig(width=32, layers=2, heads=2, kv_heads=2, feed_forward=64, exits=(1,))
    model = Llama(shape).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # so that what it says depends on what it reads
    tokenizer, end = load_tokenizer(), special_id(END)
    asked = [
        Example("who are you?", "A node of the mesh, and glad to be."),
        Example("2+2", "2 + 2 = 4", scratchpad="2+2=4"),
    ]
    batch = make_batch(tokenizer, asked)
    states, best, own = calibrating.own_answers(model, batch, passes)
    for row, example in enumerate(asked):
        prompt = prompt_ids(tokenizer, example)
        said: list[int] = []
        while len(prompt) + len(said) <= batch.ids.shape[1] and end not in said:
            with torch.no_grad():
                said.append(int(model(torch.tensor([prompt + said]))[0, -1].argmax()))
        settled = best[row][own[row]].tolist()
        assert settled == (said if passes == 100 else said[: len(settled)])
        assert len(settled) >= min(passes, len(said))
        ids = torch.tensor([prompt + settled[:-1]])
        with torch.no_grad():
            rows = model.hidden(ids)[0][0, len(prompt) - 1 :]
        assert torch.allclose(states[0][row][own[row]], rows, atol=1e-5)


def test_the_command_writes_exits_that_say_how_far_they_are_believed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "arithmetic.exits.gguf"
    exit_tuning.main(
        ["arithmetic", "--checkpoint", str(trained), "--at", "2", "--at", "1", "--minutes", "0.02",
         "--answers", "30", "--output", str(output)]
    )  # fmt: skip
    assert exits_of(output) == (1, 2)
    told = capsys.readouterr()
    assert str(output) in told.out
    assert "exit after 1: never sure" in told.err  # 30 answers bound no risk of one in a hundred
    assert json.loads(told.err.splitlines()[0])["rows"] > 0
    found = calibration.read(header.read(output).scalars, calibration.of_exit(1))
    assert found.fitted
    assert found.answers == 30
    assert math.isfinite(found.shift)
