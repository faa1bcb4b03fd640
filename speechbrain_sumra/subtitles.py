"""Segments of a transcription as SubRip (SRT) and WebVTT text."""

import html
from collections.abc import Iterable

from speechbrain_sumra.inference import Segment


def to_srt(segments: Iterable[Segment]) -> str:
    """SubRip: numbered cues.

    Arguments
    ---------
    segments : iterable of Segment
        In order of time. Those without text give no cue.

    Returns
    -------
    str
        The contents of a ``.srt`` file.

    Example
    -------
    >>> print(to_srt([Segment(3599.9996, 3602.5, "dobry dźeń")]), end="")
    1
    01:00:00,000 --> 01:00:02,500
    dobry dźeń
    """
    cues = [
        f"{number}\n{_times(segment, ',')}\n{_line(segment).replace('-->', '->')}\n"
        for number, segment in enumerate(_spoken(segments), start=1)
    ]
    return "\n".join(cues)


def to_vtt(segments: Iterable[Segment]) -> str:
    """WebVTT, with ``&``, ``<`` and ``>`` escaped.

    Arguments
    ---------
    segments : iterable of Segment
        In order of time. Those without text give no cue.

    Returns
    -------
    str
        The contents of a ``.vtt`` file.

    Example
    -------
    >>> print(to_vtt([Segment(0.0, 1.25, "a < b")]), end="")
    WEBVTT
    <BLANKLINE>
    00:00:00.000 --> 00:00:01.250
    a &lt; b
    """
    cues = [
        f"{_times(segment, '.')}\n{html.escape(_line(segment), quote=False)}\n"
        for segment in _spoken(segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _spoken(segments: Iterable[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.text.strip()]


def _line(segment: Segment) -> str:
    """The text in one line: an empty one would end the cue."""
    return " ".join(segment.text.split())


def _times(segment: Segment, point: str) -> str:
    return f"{_time(segment.start, point)} --> {_time(segment.end, point)}"


def _time(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
