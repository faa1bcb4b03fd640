"""Subtitles that players can read: times, numbers and special characters."""

import html
import re

import pytest

from speechbrain_sumra.inference import Segment
from speechbrain_sumra.subtitles import to_srt, to_vtt

CUE = re.compile(
    r"(?:(\d+)\n)?(\d{2,}):(\d\d):(\d\d)[,.](\d{3}) --> "
    r"(\d{2,}):(\d\d):(\d\d)[,.](\d{3})\n(.+)\n(?:\n|$)"
)
SEGMENTS = [
    Segment(0.0, 1.5, "dobry dźeń"),
    Segment(1.5, 59.9996, "a & b < c > d"),
    Segment(61.0, 62.0, " "),
    Segment(3599.9994, 3600.0, "šesć\n\nlinkow\r\n"),
    Segment(360_000.25, 360_001.0, "-->"),
]


def cues(text):
    """Number, start, end and text of each cue, read back."""
    found = []
    for number, *times, line in CUE.findall(text):
        seconds = [
            3600 * int(h) + 60 * int(m) + int(s) + int(ms) / 1000
            for h, m, s, ms in (times[:4], times[4:])
        ]
        assert all(int(part) < 60 for part in (*times[1:3], *times[5:7]))
        found.append((number, *seconds, line))
    return found


SPOKEN = [SEGMENTS[i] for i in (0, 1, 3, 4)]


def test_srt_has_a_numbered_cue_for_each_segment_with_text():
    found = cues(to_srt(SEGMENTS))
    assert [cue[0] for cue in found] == ["1", "2", "3", "4"]
    texts = ["dobry dźeń", "a & b < c > d", "šesć linkow", "->"]
    assert [cue[3] for cue in found] == texts


def test_vtt_escapes_what_it_would_read_as_markup():
    text = to_vtt(SEGMENTS)
    assert text.startswith("WEBVTT\n\n")
    found = cues(text.removeprefix("WEBVTT\n\n"))
    texts = ["dobry dźeń", "a & b < c > d", "šesć linkow", "-->"]
    assert [html.unescape(cue[3]) for cue in found] == texts
    assert all("<" not in cue[3] and "-->" not in cue[3] for cue in found)


@pytest.mark.parametrize("write", [to_srt, to_vtt])
def test_times_are_those_of_the_segments_to_the_millisecond(write):
    found = cues(write(SEGMENTS))
    assert len(found) == len(SPOKEN)
    for (_, start, end, _), segment in zip(found, SPOKEN, strict=True):
        assert start == pytest.approx(segment.start, abs=5.1e-4)
        assert end == pytest.approx(segment.end, abs=5.1e-4)


def test_each_format_has_its_own_decimal_point():
    assert "00:01:00,000" in to_srt(SEGMENTS)
    assert "00:01:00.000" in to_vtt(SEGMENTS)


def test_silence_has_no_cues():
    assert to_srt([]) == "" and to_vtt([]) == "WEBVTT\n"
