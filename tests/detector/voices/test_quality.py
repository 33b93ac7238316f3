import numpy as np
import pytest
from voices import RATE_HZ, hiss, hum, play, speak, tone, vibrate, whisper

from detector.results import Reason
from detector.voices.features import normalize_level
from detector.voices.quality import speech_exclusion_reasons


def exclusion_reasons(waveform):
    return speech_exclusion_reasons(waveform, normalize_level(waveform))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [1, 0.02])
def test_speech_passes_the_quality_gate_loud_and_quiet(seed, level):
    assert exclusion_reasons(level * speak(2.5, seed, pitch_hz=100 + 50 * seed)) == ()


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros(0, np.float32), Reason.TOO_SHORT),
        (np.zeros(3 * RATE_HZ, np.float32), Reason.SILENT),
        (1e-4 * speak(3), Reason.SILENT),
        (speak(0.7), Reason.TOO_SHORT),
        (np.concatenate([speak(0.7), 1e-4 * hiss(3)]), Reason.TOO_SHORT),
        (play(), Reason.NO_SPEECH),
        (tone(220, 3), Reason.NO_SPEECH),
        (speak(3, glide=0), Reason.NO_SPEECH),
        (hiss(), Reason.NO_SPEECH),
        (whisper(voiced_s=0.3), Reason.NO_SPEECH),
        (vibrate(), Reason.NO_SPEECH),
        (speak(3) + hiss(3), Reason.NOISY),
    ],
    ids=[
        "nothing",
        "silence",
        "near silence",
        "too short",
        "a word and a pause",
        "notes",
        "tone",
        "one pitch",
        "hiss",
        "one voiced word in a whisper",
        "vibrato",
        "in noise",
    ],
)
def test_an_excluded_recording_gets_the_reason(sound, reason):
    assert reason in exclusion_reasons(sound)


@pytest.mark.parametrize("notes", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_humming_is_no_speech(seed, notes):
    assert exclusion_reasons(hum(seed=seed, notes=notes)) == (Reason.NO_SPEECH,)


@pytest.mark.parametrize("seed", range(3))
def test_a_whisper_with_enough_voiced_sound_passes_the_quality_gate(seed):
    assert exclusion_reasons(whisper(seed=seed, voiced_s=1.5)) == ()


def test_silence_excludes_every_other_reason():
    assert exclusion_reasons(np.zeros(100 * RATE_HZ, np.float32)) == (Reason.SILENT,)
