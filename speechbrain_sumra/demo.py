"""A page in the browser: choose a language, give speech, read the text.

The page is Gradio's and for one machine: it listens there only unless told
otherwise, fetches nothing from elsewhere, and keeps no upload.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio
import soundfile
from speechbrain.utils.logger import get_logger

from speechbrain_sumra.inference import Transcriber, Transcription

logger = get_logger(__name__)

# Names Gradio's folder for uploads.
UPLOADS = "GRADIO_TEMP_DIR"
# Uploads that were never transcribed: seconds between looks, and how old they get.
ABANDONED = (60, 3600)
COLUMNS = ["File", "Language", "Text", "Error"]
FAILED = "The transcription failed; the log of the program behind this page says why."
# Gradio's settings of an event. The tabs share one model, so they take turns.
EVENT = {
    "concurrency_id": "transcriber",
    "concurrency_limit": 1,
    "api_visibility": "private",
}


def serve(
    transcriber: Transcriber,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: float = 25,
    max_seconds: float = 600,
) -> None:
    """Show the page until the program is interrupted.

    Arguments
    ---------
    transcriber : Transcriber
        What transcribes.
    host : str
        The address to listen at. Default: this machine's own, which no other
        machine reaches.
    port : int
        Its port, 1 to 65535.
    max_megabytes, max_seconds : float
        Limits of an upload.

    Raises
    ------
    OSError
        If the port is in use or the host is not this machine.
    ValueError
        If the bank has no language, or there is no such port.
    """
    limits = {"max_megabytes": max_megabytes, "max_seconds": max_seconds}
    with running(transcriber, host, port, **limits) as page:
        print(f"The page is at {page.local_url} until you press Ctrl+C.", flush=True)
        page.block_thread()


@contextlib.contextmanager
def running(
    transcriber: Transcriber,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: float = 25,
    max_seconds: float = 600,
) -> Iterator[gradio.Blocks]:
    """Show the page while other things are done, one page in a process at a time.

    Arguments
    ---------
    transcriber, host, port, max_megabytes, max_seconds
        As for ``serve``.

    Yields
    ------
    gradio.Blocks
        The page; its ``local_url`` says where it is.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"Expected a port, 1 to 65535, got {port}.")
    with _private_uploads():
        page = build_page(transcriber, max_megabytes, max_seconds)
        try:
            _launch(page, host, port, max_megabytes)
            yield page
        finally:
            page.close(verbose=False)


@contextlib.contextmanager
def _private_uploads() -> Iterator[None]:
    """Have Gradio put uploads where nobody else can read, and delete what is left."""
    chosen = os.environ.get(UPLOADS)
    with TemporaryDirectory(prefix="sumra-demo-") as folder:
        os.environ[UPLOADS] = folder
        try:
            yield
        finally:
            del os.environ[UPLOADS]
            if chosen is not None:
                os.environ[UPLOADS] = chosen


def _launch(page: gradio.Blocks, host: str, port: int, max_megabytes: float) -> None:
    """Start the server, with nothing but the page on it."""
    try:
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=int(max_megabytes * 1e6),
            share=False,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        raise OSError(
            f"The page cannot be shown at {host}, port {port}: the port is in use, or "
            "the address is not this machine's. Choose another."
        ) from error


def build_page(
    transcriber: Transcriber, max_megabytes: float = 25, max_seconds: float = 600
) -> gradio.Blocks:
    """The page, not yet shown anywhere.

    Arguments
    ---------
    transcriber : Transcriber
        What transcribes; its bank's languages are offered.
    max_megabytes, max_seconds : float
        Limits of an upload.

    Returns
    -------
    gradio.Blocks
        A tab for one clip, with and without its language's adapter, and a tab
        for several files, each in its own language.

    Raises
    ------
    ValueError
        If the bank has no language.
    """
    locales = list(transcriber.bank.locales)
    if not locales:
        raise ValueError(
            "The page needs at least one language, and the bank has none: give it "
            "an adapter file first."
        )
    transcribe = partial(
        transcribe_uploads,
        transcriber,
        max_megabytes=max_megabytes,
        max_seconds=max_seconds,
    )
    with gradio.Blocks(
        title="speechbrain-sumra", analytics_enabled=False, delete_cache=ABANDONED
    ) as page:
        gradio.Markdown(
            "# speechbrain-sumra\n"
            "Whisper with a small file per language. Files of at most "
            f"{max_megabytes:g} MB and {max_seconds:g} s (wav, mp3, flac, ogg); they "
            "are deleted when the text is there."
        )
        with gradio.Tab("One clip"):
            _clip_tab(partial(transcribe_clip, transcribe), locales)
        with gradio.Tab("Several files"):
            _files_tab(partial(transcribe_table, transcribe), locales)
    return page


def _clip_tab(answer: Callable, locales: list[str]) -> None:
    """One clip, and its text with and without the adapter side by side."""
    locale = gradio.Dropdown(locales, label="Language", elem_id="locale")
    clip = gradio.Audio(
        type="filepath",
        sources=["upload", "microphone"],
        buttons=[],
        label="Speech",
        elem_id="clip",
    )
    button = gradio.Button("Transcribe", variant="primary", elem_id="transcribe")
    with gradio.Row():
        adapted, unadapted = (
            gradio.Textbox(
                label=f"{name} Whisper", lines=4, buttons=["copy"], elem_id=name.lower()
            )
            for name in ("Adapted", "Unadapted")
        )
    error = gradio.Textbox(label="Error", visible=False, elem_id="error")

    def show(path, locale):
        *texts, problem = answer(path, locale)
        # The file is gone, so the page no longer offers it; or it is on its way.
        clip = gradio.skip() if path is None else None
        return clip, *texts, gradio.Textbox(problem, visible=bool(problem))

    button.click(show, [clip, locale], [clip, adapted, unadapted, error], **EVENT)


def _files_tab(answer: Callable, locales: list[str]) -> None:
    """Several files, a language for each, and a table of their texts."""
    files = gradio.File(
        file_count="multiple", file_types=["audio"], label="Speech", elem_id="files"
    )

    # Each time that files change, their dropdowns are made anew.
    chosen = gradio.State({})

    def remember(path, locale, languages):
        return {**languages, path: locale}

    @gradio.render([files, chosen], triggers=[files.change])
    def choose_languages(paths, languages):
        choices = [
            gradio.Dropdown(
                locales,
                value=languages.get(path, locales[0]),
                label=Path(path).name,
                interactive=True,
            )
            for path in paths or []
        ]
        for path, choice in zip(paths or [], choices, strict=True):
            choice.input(
                partial(remember, path),
                [choice, chosen],
                chosen,
                show_progress="hidden",
                api_visibility="private",
            )
        button = gradio.Button(
            "Transcribe all",
            variant="primary",
            visible=bool(choices),
            elem_id="transcribe-all",
        )
        button.click(
            lambda paths, *languages: (None, answer(paths, languages)),
            [files, *choices],
            [files, table],
            **EVENT,
        )

    table = gradio.Dataframe(
        headers=COLUMNS, datatype="str", interactive=False, wrap=True, elem_id="table"
    )


def transcribe_clip(
    transcribe: Callable, path: str | None, locale: str
) -> tuple[str, str, str]:
    """What the first tab shows.

    Arguments
    ---------
    transcribe : callable
        ``transcribe_uploads`` but for paths and locales.
    path : str or None
        The upload, if there is one.
    locale : str
        The chosen language.

    Returns
    -------
    adapted, unadapted, error : str
        The clip's text with and without the adapter, and what went wrong.
    """
    if path is None:
        return "", "", "Upload or record a clip first."
    adapted, unadapted = transcribe([path, path], [locale, None])
    return adapted.text, unadapted.text, adapted.error or unadapted.error or ""


def transcribe_table(
    transcribe: Callable, paths: list[str], locales: list[str]
) -> list[list[str]]:
    """What the second tab shows.

    Arguments
    ---------
    transcribe : callable
        ``transcribe_uploads`` but for paths and locales.
    paths : list of str
        The uploads.
    locales : list of str
        The language of each.

    Returns
    -------
    list of list of str
        A row of ``COLUMNS`` for each upload.
    """
    return [
        [Path(path).name, locale, result.text, result.error or ""]
        for path, locale, result in zip(
            paths, locales, transcribe(paths, locales), strict=True
        )
    ]


def transcribe_uploads(
    transcriber: Transcriber,
    paths: list[str],
    locales: list[str | None],
    max_megabytes: float = 25,
    max_seconds: float = 600,
) -> list[Transcription]:
    """Transcribe uploaded files together, and delete them.

    Arguments
    ---------
    transcriber : Transcriber
        Transcribes, in one call, what is not refused here.
    paths : list of str
        The uploads. A path that stands there twice is transcribed twice.
        Whatever happens, none of the files is left.
    locales : list of str or None
        The language of each; None is the unadapted Whisper.
    max_megabytes, max_seconds : float
        Larger and longer files are refused. Of a file that is longer than it says,
        no more than that is read.

    Returns
    -------
    list of Transcription
        One for each path. What went wrong is one line in its ``error``, which
        names the file and not the folder that it was in.
    """
    results = [
        Transcription(path, locale, [], _refusal(path, max_megabytes, max_seconds))
        for path, locale in zip(paths, locales, strict=True)
    ]
    accepted = [i for i, result in enumerate(results) if result.error is None]
    try:
        done = transcriber.transcribe_files(
            [paths[i] for i in accepted],
            [locales[i] for i in accepted],
            progress=False,
            max_seconds=max_seconds,
        )
        for i, result in zip(accepted, done, strict=True):
            results[i] = result
    except Exception:
        logger.exception("The page could not transcribe %d uploads", len(accepted))
        for i in accepted:
            results[i].error = FAILED
    finally:
        for path in map(Path, set(paths)):
            path.unlink(missing_ok=True)
    for path, result in zip(paths, results, strict=True):
        if result.error:
            line = " ".join(result.error.split())
            result.error = line.replace(path, Path(path).name)
    return results


def _refusal(path: str, max_megabytes: float, max_seconds: float) -> str | None:
    """Why an upload is not transcribed, if it is not."""
    try:
        megabytes = Path(path).stat().st_size / 1e6
    except FileNotFoundError:
        return f"{path} is no longer there; please upload it again."
    if megabytes > max_megabytes:
        return f"{path} has {megabytes:.1f} MB; at most {max_megabytes:g} MB are taken."
    try:
        seconds = soundfile.info(path).duration
    except soundfile.LibsndfileError:
        return None  # the transcriber says so in its own words
    if seconds > max_seconds:
        return (
            f"{path} is longer than {max_seconds:g} s, or does not say how long it is."
        )
    return None
