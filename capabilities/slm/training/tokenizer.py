"""The one tokenizer of the model family: byte-level BPE that llama.cpp reads as `qwen2`.

All embedded models share it, so that their token ids, and later their hidden rows and drafts, mean
the same thing. Every digit is a token of its own (the arithmetic scratchpad lives on that), and any
byte can be written, so no text is out of vocabulary.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenizers import Tokenizer

VOCABULARY_SIZE = 3072
TOKENIZER_FILE = Path(__file__).with_name("tokenizer.json")

END, PAD, SYSTEM, USER, ASSISTANT, THINK, THINK_END = (
    "<|end|>",
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|think|>",
    "<|/think|>",
)
# Room for what later models need (tools, documents, exits) without new ids for old tokens.
RESERVED = tuple(f"<|reserved_{i}|>" for i in range(9))
SPECIAL_TOKENS = (END, PAD, SYSTEM, USER, ASSISTANT, THINK, THINK_END, *RESERVED)

# Character for character what llama.cpp applies for `tokenizer.ggml.pre = "qwen2"`.
QWEN2_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """A fresh tokenizer from `texts`; the special tokens take ids 0 to 15."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@cache
def load_tokenizer() -> Tokenizer:
    """The shipped tokenizer."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TOKENIZER_FILE))


def special_id(token: str) -> int:
    """The id of a special token; they come first, in order."""
    return SPECIAL_TOKENS.index(token)
