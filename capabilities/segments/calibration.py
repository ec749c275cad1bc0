"""How far an early exit is believed: its probability as a confidence held to data; pure.

An exit is sure where its head is, also where the whole model would say something else: it has not
seen the layers that would have told it. So each exit is fitted, after training, on answers of the
whole model that neither was trained on. Two points are fitted. At a threshold of 0.8 (CE-CoLLM's
default) at most one answer in a hundred may part from the whole model's, at 0.5 one in twenty; the
line through both, in log odds, gives a confidence to every probability.

The unit is the answer, since one wrong token spoils it and tokens of one answer err together. An
answer parts at a threshold if the exit says a token otherwise with at least that probability, so
all that counts of it is the most probable of its wrong tokens. The share of answers that part is
bounded from above by Clopper and Pearson (1934) at 90 %, and the lowest threshold under the bound
is taken: risk control in the sense of Bates et al. (2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import msgspec

from mesh.core.errors import ModelError

# Thresholds, and the share of answers that may part there with all exits together. 0.01 is what
# cooperation may cost in right answers; 0.05 is for somebody who would rather have speed.
RISKS = ((0.5, 0.05), (0.8, 0.01))
SURE = 0.8  # the threshold that the figures are of
DOUBT = 0.1  # the bound holds with one less this probability
# Of the risk, what the exits before the last one may use up: each token that the last one says
# spares the other machine a question, an earlier one spares a few layers here.
EARLY_SHARE = 0.25
LEAST = 1e-5  # nearer to 0 or 1, logits in 32 bits do not tell probabilities apart
NEVER = 40.0  # log odds that no probability reaches: an exit that may not speak at this threshold
LEAST_SCALE = 0.25  # where both points fall together, confidence still falls gently between them
FIELDS = ("scale", "shift", "answers", "tokens", "sure", "wrong", "parted")


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Of one exit: its log odds less ``shift``, divided by ``scale``; as it is by default.

    On ``tokens`` held-out tokens in ``answers`` answers, at a threshold of 0.8: the share of
    tokens that it says (``sure``), the share of these that it says otherwise than the whole model
    (``wrong``), and the share of answers with such a token (``parted``).
    """

    scale: float = 1.0
    shift: float = 0.0
    answers: int = 0
    tokens: int = 0
    sure: float = 0.0
    wrong: float = 0.0
    parted: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.shift) and self.scale > 0):
            raise ModelError(
                f"the confidence of an exit is scaled by {self.scale} and shifted by {self.shift}",
                hint="fit the exits again with capabilities.slm.training.exit_tuning",
            )

    @property
    def fitted(self) -> bool:
        """Whether it was; else the raw probability is believed."""
        return (self.scale, self.shift) != (1.0, 0.0)

    def confidence(self, logprob: float) -> float:
        """From the natural logarithm of the largest probability, 0 to 1, rising with it."""
        if not self.fitted:
            return math.exp(logprob)
        return _sigmoid((log_odds(logprob) - self.shift) / self.scale)

    def probability(self, confidence: float) -> float:
        """The raw probability from which on it is at least so confident; 1 where it never is."""
        odds = math.log(confidence / (1.0 - confidence)) * self.scale + self.shift
        return _sigmoid(odds) if odds < log_odds(0.0) else 1.0

    def facts(self) -> dict[str, float | int]:
        """As ``--json`` shows it."""
        return {
            "scale": round(self.scale, 4),
            "shift": round(self.shift, 4),
            "from_probability": round(self.probability(SURE), 6),
            **{key: getattr(self, key) for key in FIELDS[2:4]},
            **{key: round(getattr(self, key), 5) for key in FIELDS[4:]},
        }

    def told(self) -> str:
        """One line for people."""
        if not self.fitted:
            return "its raw probability is believed: it was not calibrated"
        least = self.probability(SURE)
        if least >= 1.0:
            return f"never sure at {SURE}: too few held-out answers ({self.answers}) bound it"
        return (
            f"sure at {SURE} from a probability of {least:.5f}; of {self.tokens} held-out tokens "
            f"it says {self.sure:.1%}, {self.wrong:.2%} of them otherwise than the whole model; "
            f"{self.parted:.2%} of {self.answers} answers part"
        )


RAW = Calibration()


def read(scalars: Mapping[str, str | int | float | bool], prefix: str) -> Calibration:
    """What a file's metadata say under ``prefix``; raises ModelError for nonsense."""
    found = {key: scalars[f"{prefix}.{key}"] for key in FIELDS if f"{prefix}.{key}" in scalars}
    if "scale" not in found or "shift" not in found:
        return RAW
    return Calibration(
        scale=float(found["scale"]),
        shift=float(found["shift"]),
        answers=int(found.get("answers", 0)),
        tokens=int(found.get("tokens", 0)),
        sure=float(found.get("sure", 0.0)),
        wrong=float(found.get("wrong", 0.0)),
        parted=float(found.get("parted", 0.0)),
    )


def of_exit(layer: int) -> str:
    """Where the file of the exits keeps the calibration of the exit after a layer."""
    return f"exit.{layer}.confidence"


def log_odds(logprob: float) -> float:
    """Of a probability given as its logarithm, as far as 32 bits tell."""
    wrong = min(1.0 - LEAST, max(LEAST, -math.expm1(logprob)))
    return math.log1p(-wrong) - math.log(wrong)


def upper_bound(failures: int, trials: int, doubt: float = DOUBT) -> float:
    """The largest share that such a count still allows (Clopper and Pearson 1934), one-sided."""
    if not trials or failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _at_most(failures, trials, middle) > doubt:
            low = middle
        else:
            high = middle
    return high


def fit(worst: Mapping[int, Sequence[float]]) -> dict[int, tuple[float, float]]:
    """Scale and shift of each exit, by the layer after which it stands.

    ``worst``: for each exit and answer the log odds of the most probable token that it says
    otherwise than the whole model, minus infinity where it says none. An answer that an earlier
    exit spoils is not counted again for a later one.
    """
    points: dict[int, list[float]] = {layer: [] for layer in worst}
    for _, risk in RISKS:
        parted: set[int] = set()
        for rank, layer in enumerate(sorted(worst), 1):
            odds = worst[layer]
            least = _lowest(odds, parted, allowed(len(odds), risk * _share(rank, len(worst))))
            parted |= {i for i, value in enumerate(odds) if value >= least}
            points[layer].append(least)
    daring, sure = (math.log(theta / (1.0 - theta)) for theta, _ in RISKS)
    found = {}
    for layer, (low, high) in points.items():
        scale = max(LEAST_SCALE, (high - low) / (sure - daring)) if high < NEVER else 1.0
        found[layer] = scale, high - scale * sure
    return found


def fewest_answers(exits: int, threshold: float = SURE) -> list[int]:
    """How many answers the threshold needs behind each exit, from the first on, if none parts.

    >>> fewest_answers(2)
    [920, 230]
    """
    risk = dict(RISKS)[threshold]
    shares = [_share(rank, exits) for rank in range(1, exits + 1)]
    return [math.ceil(math.log(DOUBT) / math.log1p(-risk * share)) for share in shares]


def _share(rank: int, exits: int) -> float:
    """Of the risk: what the exits up to this one may use up together."""
    return 1.0 if rank == exits else EARLY_SHARE * rank / (exits - 1)


@cache
def allowed(trials: int, risk: float) -> int:
    """How many failures at most are still bounded by ``risk``; -1 when none at all would not be."""
    count = -1
    while count < trials and upper_bound(count + 1, trials) <= risk:
        count += 1
    return count


def _lowest(odds: Sequence[float], parted: set[int], most: int) -> float:
    """The lowest threshold at which at most so many answers part, with those that had before."""
    room = most - len(parted)
    if room < 0:
        return NEVER
    left = sorted((value for i, value in enumerate(odds) if i not in parted), reverse=True)
    if room >= len(left) or left[room] == -math.inf:
        return -log_odds(0.0)
    # Just above the first one too many, and so above all that are as sure.
    return math.nextafter(left[room], math.inf)


def _at_most(failures: int, trials: int, share: float) -> float:
    """P(X <= failures) of the binomial distribution."""
    if share >= 1.0:
        return 0.0
    yes, no = math.log(share) if share > 0 else -math.inf, math.log1p(-share)
    total = 0.0
    for k in range(failures + 1):
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        total += math.exp(ways + (k * yes if k else 0.0) + (trials - k) * no)
    return min(1.0, total)


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    raised = math.exp(max(value, -700.0))
    return raised / (1.0 + raised)
