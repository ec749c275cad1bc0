"""The harness: it learns, resumes, and its commands write a file that llama.cpp loads."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training is an optional extra")
pytest.importorskip("tokenizers")
pytest.importorskip("gguf")

from capabilities.slm.training import train as command  # noqa: E402
from capabilities.slm.training.batches import stream  # noqa: E402
from capabilities.slm.training.chat import Example, prompt_ids, reply_ids  # noqa: E402
from capabilities.slm.training.harness import (  # noqa: E402
    IGNORE,
    TrainingConfig,
    batches,
    exact_by_category,
    load_checkpoint,
    make_batch,
    train,
)
from capabilities.slm.training.model import (  # noqa: E402
    Llama,
    ModelConfig,
    attend,
    blended,
    causal,
    deepened,
)
from capabilities.slm.training.optimiser import orthogonalise  # noqa: E402
from capabilities.slm.training.recipes import ORDER, RECIPES  # noqa: E402
from capabilities.slm.training.tokenizer import (  # noqa: E402
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    load_tokenizer,
    train_tokenizer,
)
from capabilities.slm.training.vocabulary import tokenizer_corpus  # noqa: E402

TINY = ModelConfig(width=32, layers=1, heads=2, kv_heads=2, feed_forward=64)


def test_the_committed_script_makes_the_shipped_tokenizer() -> None:
    made = train_tokenizer(tokenizer_corpus())
    assert made.to_str() == load_tokenizer().to_str()
    assert made.get_vocab_size() == VOCABULARY_SIZE
    assert [made.id_to_token(i) for i in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)


def test_every_digit_is_a_token_of_its_own() -> None:
    tokens = load_tokenizer().encode("a4+7+0=11b3 1234*99").tokens
    assert all(len(token) == 1 for token in tokens if any(c.isdigit() for c in token))


def test_the_loss_counts_the_reply_and_nothing_else() -> None:
    tokenizer = load_tokenizer()
    short = Example("hi", "Hello.", system="Be exact.")
    long = Example("what is 1+1?", "1 + 1 = 2", scratchpad="1+1\n")
    batch = make_batch(tokenizer, [short, long])
    for row, example in enumerate((short, long)):
        prompt, reply = prompt_ids(tokenizer, example), reply_ids(tokenizer, example)
        counted = batch.targets[row][batch.targets[row] != IGNORE].tolist()
        assert counted == reply
        assert batch.ids[row, : len(prompt)].tolist() == prompt
        assert batch.targets[row, len(prompt) - 1].item() == reply[0]


def test_batches_stay_within_their_cells_and_repeat_for_the_same_seed() -> None:
    tokenizer, sampler = load_tokenizer(), RECIPES["arithmetic"].sample
    first = batches(tokenizer, sampler, random.Random(1), 2048)
    second = batches(tokenizer, sampler, random.Random(1), 2048)
    for _ in range(5):
        one, two = next(first), next(second)
        assert one.ids.numel() <= 2048
        assert torch.equal(one.ids, two.ids)


def test_a_model_learns_one_answer_and_resumes_where_it_stopped(tmp_path: Path) -> None:
    example = Example("who are you?", "A node.", category="one")
    config = TrainingConfig(
        steps=100, batch_tokens=256, warmup_steps=5, evaluate_every=20, model=TINY, bfloat16=False
    )

    def always(_: random.Random) -> Example:
        return example

    model = train(config, always, [example], tmp_path)
    assert exact_by_category(model, load_tokenizer(), [example])["one"] == 1.0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    again = train(config, always, [example], tmp_path, resume=True)  # nothing is left to do
    assert torch.equal(again.embedding.weight, model.embedding.weight)
    assert torch.equal(
        load_checkpoint(tmp_path / "checkpoint.pt").embedding.weight, model.embedding.weight
    )


def test_an_answer_counts_in_any_of_its_wordings() -> None:
    torch.manual_seed(0)
    model, tokenizer = Llama(TINY), load_tokenizer()
    plain = Example("hi", "Hello.", category="x")
    with torch.no_grad():
        model.embedding.weight.zero_()  # all logits equal: the argmax is token 0, the end
    silent = Example("hi", "Hello.", alternatives=("Hello.", ""), category="x")
    assert exact_by_category(model, tokenizer, [plain])["x"] == 0.0
    assert exact_by_category(model, tokenizer, [silent])["x"] == 1.0


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (96, 32)])
def test_muon_makes_all_directions_of_an_update_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert singular.min() > 0.3
    assert singular.max() < 1.4


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_command_trains_exports_and_quantizes(name: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    output = tmp_path / f"{name}.gguf"
    command.main([name, "--smoke", "--folder", str(tmp_path / "run"), "--output", str(output)])
    model = llama_cpp.Llama(str(output), n_ctx=64, n_threads=1, vocab_only=True, verbose=False)
    assert model.n_vocab() == VOCABULARY_SIZE


def test_all_trains_in_order_stops_in_time_and_goes_on(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    out, runs = tmp_path / "out", tmp_path / "runs"
    call = ["all", "--smoke", "--workers", "1", "--out", str(out), "--folder", str(runs)]
    only = ["--only", "arithmetic", "general"]
    command.main([*call, *only, "--call-minutes", "0"])
    assert not list(out.iterdir())  # the time was up before the first
    command.main([*call, *only])
    assert {path.name for path in out.glob("*.done")} == {"arithmetic.done", "general.done"}
    packed = (out / "arithmetic.weights.pt").read_bytes()
    command.main([*call, *only])  # nothing is left to do
    assert (out / "arithmetic.weights.pt").read_bytes() == packed
    shipped = tmp_path / "shipped"
    ship = ["ship", "--out", str(out), "--folder", str(runs), "--output", str(shipped)]
    command.main([*ship, "--answers", "8"])
    names = {path.name for path in shipped.iterdir()}
    assert names == {
        f"{name}{kind}.gguf" for name in ("arithmetic", "general") for kind in ("", ".exits")
    }
    model = llama_cpp.Llama(str(shipped / "general.gguf"), n_ctx=64, n_threads=1, verbose=False)
    assert model.n_vocab() == VOCABULARY_SIZE


def test_all_models_fit_into_half_an_hour_of_a_gpu() -> None:
    assert set(ORDER) == set(RECIPES) == set(command.NAMES)
    assert sum(RECIPES[name].gpu_minutes for name in ORDER) <= 26


def test_a_gpu_gets_larger_batches_and_the_whole_head() -> None:
    recipe = command.for_device(RECIPES["general"], "cuda", None)
    assert recipe.training.device == "cuda"
    assert recipe.training.batch_tokens > RECIPES["general"].training.batch_tokens
    assert recipe.training.head_negatives == 0
    assert recipe.training.workers >= 1
    assert command.for_device(RECIPES["general"], "cpu", None) == RECIPES["general"]


def test_large_has_four_times_the_parameters_of_general() -> None:
    counts = {name: Llama(RECIPES[name].training.model).parameter_count() for name in ORDER}
    assert counts["large"] >= 4 * counts["general"]
    # A weight takes 8.5 bits in Q8_0; the embedder and the exits take up to 12 MB beside them.
    assert sum(counts.values()) * 8.5 / 8 / 1e6 + 12 <= 60


def test_shipping_without_weights_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="train with"):
        command.main(["ship", "--out", str(tmp_path)])


def test_a_deeper_model_begins_as_the_one_it_grew_from(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Llama(ModelConfig(width=32, layers=2, heads=2, kv_heads=2, feed_forward=64))
    deep = deepened(model, 5)
    ids = torch.randint(16, 3000, (2, 20))
    assert torch.equal(deep(ids), model(ids))
    with pytest.raises(ValueError, match="cannot be deepened"):
        deepened(deep, 2)


def test_a_run_may_begin_from_a_shallower_model_without_exits(tmp_path: Path) -> None:
    example = Example("who are you?", "A node.", category="one")
    shape = ModelConfig(width=32, layers=2, heads=2, kv_heads=2, feed_forward=64)
    first = TrainingConfig(steps=2, batch_tokens=256, model=shape)
    taught = train(first, lambda _: example, [example], tmp_path / "a")
    grown = replace(first, steps=1, warmup_steps=10**9, model=replace(shape, layers=3, exits=(1,)))
    model = train(
        grown,
        lambda _: example,
        [example],
        tmp_path / "b",
        begin=[tmp_path / "a" / "checkpoint.pt"],
    )
    ids = torch.randint(16, 3000, (2, 20))
    assert torch.allclose(model(ids), taught(ids), atol=1e-4)  # the first rate is next to nothing
    wider, begin = replace(grown, model=replace(shape, width=64)), [tmp_path / "a/checkpoint.pt"]
    with pytest.raises(ValueError, match="another shape"):
        train(wider, lambda _: example, [example], tmp_path / "c", begin=begin)


@pytest.mark.parametrize("length", [17, 64, 101])  # in one piece, in quarters
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_attention_written_out_is_that_of_torch(
    dtype: torch.dtype, near: float, length: int
) -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, 3, length, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    found = attend(q, k, v, causal(length, dtype, q.device))
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected.float(), atol=near)
    if dtype == torch.float32:
        weights = torch.randn_like(found)
        ours = torch.autograd.grad(found, (q, k, v), weights)
        theirs = torch.autograd.grad(expected, (q, k, v), weights)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


TEXT = "Text:\npump-1 was cleaned by Ida.\nfan-2 load 7%\nQuestion: "
TOGETHER = Example(
    TEXT + "who cleaned pump-1?",
    "Ida",
    scratchpad="pump-1: who",
    siblings=(
        Example(TEXT + "what is the load of fan-2?", "7%"),
        Example(TEXT + "who?", "Nobody knows who."),
    ),
)


def test_questions_that_share_a_text_are_answered_as_if_each_were_alone() -> None:
    torch.manual_seed(1)
    model, tokenizer = Llama(replace(TINY, layers=2)), load_tokenizer()
    # Beside a row of one question, which is padded or pads.
    batch = make_batch(tokenizer, [TOGETHER, Example("hi", "Hello.")])
    assert batch.branches is not None
    logits = model.logits(model.hidden(batch.ids, batch.branches)[-1])
    alone = [replace(TOGETHER, siblings=()), *TOGETHER.siblings]
    expected = []
    for example in alone:
        one = make_batch(tokenizer, [example])
        assert one.branches is None
        expected.append(model(one.ids)[one.targets != IGNORE])
    found = logits[0][batch.targets[0] != IGNORE]
    assert torch.allclose(found, torch.cat(expected), atol=1e-5)
    single = make_batch(tokenizer, [Example("hi", "Hello.")])
    kept = logits[1][batch.targets[1] != IGNORE]
    assert torch.allclose(kept, model(single.ids)[single.targets != IGNORE], atol=1e-5)
    assert batch.ids.shape[1] < sum(make_batch(tokenizer, [e]).ids.shape[1] for e in alone)


def test_a_row_of_questions_counts_as_right_when_all_are(tmp_path: Path) -> None:
    config = TrainingConfig(steps=60, batch_tokens=512, warmup_steps=5, model=TINY)
    model = train(config, lambda _: TOGETHER, [TOGETHER], tmp_path)
    right = exact_by_category(model, load_tokenizer(), [TOGETHER])
    wrong = replace(TOGETHER, siblings=(replace(TOGETHER.siblings[0], answer="8%"),))
    assert right["all"] == 1.0
    assert exact_by_category(model, load_tokenizer(), [wrong])["all"] == 0.0


def test_workers_draw_the_same_batches_for_the_same_seed() -> None:
    sampler = RECIPES["arithmetic"].sample
    first, second = (stream(sampler, 5, 512, workers=2) for _ in range(2))
    for _ in range(4):
        (ids, targets, _), (again, _, _) = next(first), next(second)
        assert torch.equal(ids, again)
        assert ids.shape == targets.shape


def test_exits_learn_beside_the_model_and_a_budget_ends_the_run(tmp_path: Path) -> None:
    example = Example("who are you?", "A node.", category="one")
    shape = ModelConfig(width=32, layers=2, heads=2, kv_heads=2, feed_forward=64, exits=(1,))
    config = TrainingConfig(
        steps=80, batch_tokens=256, warmup_steps=5, evaluate_every=40, model=shape, bfloat16=False
    )
    model = train(config, lambda _: example, [example], tmp_path / "a")
    batch = make_batch(load_tokenizer(), [example])
    keep = batch.targets != IGNORE
    with torch.no_grad():
        early = model.exit_logits(1, model.hidden(batch.ids)[0])
    assert torch.equal(early.argmax(-1)[keep], batch.targets[keep])
    timed = replace(config, steps=10**9, budget_s=0.5)
    train(timed, lambda _: example, [example], tmp_path / "b")
    log = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["elapsed_s"] <= 60
    assert "exact" in log[-1]


def test_the_rate_falls_to_zero_at_the_end_of_steps_or_of_time() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, cooldown_share=0.5)
    shares = [config.rate_share(s, config.progress(s, 0.0)) for s in (0, 20, 50, 75, 100)]
    assert shares == [0.1, 1.0, 1.0, 0.5, 0.0]
    timed = replace(config, budget_s=60.0)
    assert timed.rate_share(10**6, timed.progress(10**6, 45.0)) == 0.5


def test_a_smoke_run_cannot_overwrite_the_shipped_model() -> None:
    with pytest.raises(SystemExit):
        command.main(["arithmetic", "--smoke"])


def test_an_export_mixes_in_weights_that_the_run_began_from(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    first, second = tmp_path / "a", tmp_path / "b"
    call = ["arithmetic", "--smoke", "--output", str(tmp_path / "x.gguf")]
    command.main([*call, "--folder", str(first), "--answers", "0"])
    begin = ["--begin", str(first / "checkpoint.pt")]
    command.main([*call, "--folder", str(second), "--answers", "0", "--steps", "8", *begin])
    ends = [load_checkpoint(folder / "checkpoint.pt") for folder in (first, second)]
    half = blended(ends[1], ends[0], 0.5).state_dict()
    for key, tensor in half.items():
        expected = (ends[0].state_dict()[key] + ends[1].state_dict()[key]) / 2
        assert torch.allclose(tensor, expected, atol=1e-6)
    plain, mixed = tmp_path / "plain.gguf", tmp_path / "mixed.gguf"
    again = ["arithmetic", "--export", "--folder", str(second), "--answers", "0"]
    command.main([*again, "--output", str(plain)])
    command.main([*again, "--output", str(mixed), "--blend", "0.5", *begin])
    assert plain.read_bytes() != mixed.read_bytes()


def test_only_an_export_blends_and_only_models_of_one_shape() -> None:
    with pytest.raises(SystemExit):
        command.main(["arithmetic", "--blend", "0.5"])
    with pytest.raises(SystemExit):
        command.main(["arithmetic", "--export", "--blend", "0.5"])
    one, other = (Llama(ModelConfig(width=32, heads=1, kv_heads=1, layers=n)) for n in (1, 2))
    with pytest.raises(ValueError, match="one shape"):
        blended(one, other, 0.5)
