"""Heart rate from a photoplethysmogram, with how far it can be believed. Pure.

The pulse wave is found by two moving averages: where the short one (a systolic peak's length) lies
above the long one (a beat's length) there is a beat. Source: Elgendi, Norton, Brearley, Abbott and
Schuurmans 2013, "Systolic peak detection in acceleration photoplethysmograms measured from tropical
conditions", PLoS ONE 8(10), whose 111 ms, 667 ms and 2 % are used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BAND_HZ = (0.5, 8.0)
PEAK_S, BEAT_S, OFFSET = 0.111, 0.667, 0.02
SLOWEST_BPM, FASTEST_BPM = 30.0, 220.0
REGULAR = 0.25  # of the median interval: an interval further off is a beat missed or made up
REFRACTORY = 0.6  # of a period: what comes sooner is the dicrotic wave of the same beat
NEAR = 0.8  # of the best resemblance
MIN_BEATS = 4
MIN_SAMPLE_HZ, MAX_SAMPLE_HZ = 16.0, 2000.0
MAX_SAMPLES = 2_000_000
BELIEVED = 0.6  # quality from which a rate is told


class HeartRate(msgspec.Struct, frozen=True, kw_only=True):
    """``bpm`` of a stretch; ``quality`` 0 to 1: regular intervals and beats that look alike.
    ``rmssd_ms`` is the variation from beat to beat."""

    bpm: float
    quality: float
    beats: int
    rmssd_ms: float = 0.0
    peaks: tuple[int, ...] = ()

    @property
    def believed(self) -> bool:
        """Whether the rate is worth telling."""
        return self.quality >= BELIEVED


def heart_rate(samples: Sequence[float] | NDArray[np.float64], sample_hz: float) -> HeartRate:
    """The heart rate of a stretch of some seconds; quality 0 where there is no pulse in it.

    Raises ValueError for a rate or a length that no recording has.
    """
    import numpy as np

    if not MIN_SAMPLE_HZ <= sample_hz <= MAX_SAMPLE_HZ or len(samples) > MAX_SAMPLES:
        raise ValueError(f"{len(samples)} samples at {sample_hz} Hz are no recording of a pulse")
    raw = np.asarray(samples, dtype=np.float64)
    nothing = HeartRate(bpm=0.0, quality=0.0, beats=0)
    if len(raw) < MIN_BEATS * sample_hz * 60 / FASTEST_BPM or not np.isfinite(raw).all():
        return nothing
    wave = _band(raw, sample_hz)
    peaks = _peaks(wave, sample_hz)
    if len(peaks) < MIN_BEATS:
        return nothing
    intervals_s = np.diff(peaks) / sample_hz
    middle = float(np.median(intervals_s))
    regular = np.abs(intervals_s - middle) <= REGULAR * middle
    if not regular.any() or not SLOWEST_BPM <= 60.0 / middle <= FASTEST_BPM:
        return nothing
    kept = intervals_s[regular]
    steps = np.diff(intervals_s)[regular[1:] & regular[:-1]]
    covered = float(kept.sum()) * sample_hz / len(raw)
    return HeartRate(
        bpm=60.0 / float(kept.mean()),
        quality=round(
            min(1.0, covered) * float(regular.mean()) * _alike(wave, peaks, middle, sample_hz), 3
        ),
        beats=len(peaks),
        rmssd_ms=float(np.sqrt(np.mean(steps**2)) * 1000.0) if len(steps) else 0.0,
        peaks=tuple(int(peak) for peak in peaks),
    )


def _band(raw: NDArray[np.float64], sample_hz: float) -> NDArray[np.float64]:
    """What lies within :data:`BAND_HZ`, by the Fourier transform of the mirrored stretch."""
    import numpy as np

    centred = raw - np.median(raw)
    mirrored = np.concatenate([centred, centred[::-1]])
    spectrum = np.fft.rfft(mirrored)
    hertz = np.fft.rfftfreq(len(mirrored), 1 / sample_hz)
    low, high = BAND_HZ
    # Butterworth's magnitude of second order: no ringing at the edges of the band.
    gain = 1 / np.sqrt(1 + (hertz / high) ** 4)
    gain *= 1 - 1 / np.sqrt(1 + (hertz / low) ** 8)
    filtered: NDArray[np.float64] = np.fft.irfft(spectrum * gain, len(mirrored))[: len(raw)]
    return filtered


def _peaks(wave: NDArray[np.float64], sample_hz: float) -> NDArray[np.int64]:
    import numpy as np

    power = np.clip(wave, 0, None) ** 2
    # A movement's wave is a hundred times the pulse's; it shall not set the threshold.
    power = np.minimum(power, 4 * np.quantile(power, 0.95) + 1e-12)
    period = _period(wave, sample_hz)
    beat = _average(power, max(BEAT_S * sample_hz, period))
    high = _average(power, PEAK_S * sample_hz) > beat + OFFSET * power.mean()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], high.astype(np.int8), [0]])))
    found: list[int] = []
    refractory = max(60.0 / FASTEST_BPM * sample_hz, REFRACTORY * period)
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        if end - first < PEAK_S * sample_hz * 0.5:
            continue
        peak = int(first + np.argmax(wave[first:end]))
        if found and peak - found[-1] < refractory:
            if wave[peak] > wave[found[-1]]:
                found[-1] = peak
        else:
            found.append(peak)
    return np.asarray(found, dtype=np.int64)


def _period(wave: NDArray[np.float64], sample_hz: float) -> float:
    """Samples from beat to beat, as the wave resembles itself (autocorrelation): the first lag
    that comes near to the best one, since twice a period resembles as well."""
    import numpy as np

    limited = np.clip(wave, *np.quantile(wave, (0.02, 0.98)))
    size = 1 << (2 * len(limited) - 1).bit_length()
    spectrum = np.fft.rfft(limited - limited.mean(), size)
    like = np.fft.irfft(spectrum * np.conj(spectrum), size)[: len(limited)]
    like = like / np.maximum(np.arange(len(limited), 0, -1), 1)
    first = int(60.0 / FASTEST_BPM * sample_hz)
    last = min(int(60.0 / SLOWEST_BPM * sample_hz), len(limited) // 2)
    inner = like[first:last]
    if len(inner) < 3:
        return 0.0
    tops = np.flatnonzero((inner[1:-1] >= inner[:-2]) & (inner[1:-1] > inner[2:])) + 1
    if not len(tops) or inner[tops].max() <= 0:
        return 0.0
    return float(first + tops[inner[tops] >= NEAR * inner[tops].max()][0])


def _average(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    import numpy as np

    count = max(1, round(width) | 1)
    return np.convolve(values, np.ones(count) / count, mode="same")


def _alike(
    wave: NDArray[np.float64], peaks: NDArray[np.int64], interval_s: float, sample_hz: float
) -> float:
    """The median correlation of the beats with their median beat, 0 to 1."""
    import numpy as np

    half = max(2, int(interval_s * sample_hz / 2))
    whole = peaks[(peaks >= half) & (peaks + half < len(wave))]
    if len(whole) < MIN_BEATS - 1:
        return 0.0
    beats = np.stack([wave[peak - half : peak + half] for peak in whole])
    beats = beats - beats.mean(axis=1, keepdims=True)
    typical = np.median(beats, axis=0)
    norms = np.linalg.norm(beats, axis=1) * np.linalg.norm(typical)
    return max(0.0, float(np.median((beats @ typical) / np.maximum(norms, 1e-12))))
