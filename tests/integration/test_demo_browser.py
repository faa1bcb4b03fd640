"""The page in a real browser, with the real whisper-base and real speech.

``DEMO_ADAPTERS`` and ``DEMO_SCREENSHOT`` make the picture of docs/demo.md:

> DEMO_ADAPTERS=<folder> DEMO_SCREENSHOT=docs/demo.png python -m pytest \
    tests/integration/test_demo_browser.py -k what_the_transcriber_says
"""

import contextlib
import json
import os
import shutil
import socket
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import soundfile
from languages import Languages

pytest.importorskip("selenium", reason="no selenium")
pytest.importorskip("gradio", reason="needs [serve]")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from speechbrain_sumra.demo import running
from speechbrain_sumra.inference import Segment, Transcriber, Transcription

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium"),
]

LOOPBACK = "127.0.0.1"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,1000",
    # What is asked of another host is logged, and goes nowhere.
    f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}",
    # A microphone that beeps, and leave to use it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
MARKUP = "<b>bold</b><img src=x onerror=\"document.title='run'\">"


class Page:
    """The open page, as somebody uses it."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.get(url)
        self.first("#transcribe")

    def wait(self, condition):
        # What was found may be drawn anew before anything is done with it.
        stale = [StaleElementReferenceException]
        wait = WebDriverWait(self.browser, 120, ignored_exceptions=stale)
        return wait.until(lambda _: condition())

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def first(self, selector):
        """The first that can be seen, as soon as there is one."""
        return self.wait(
            lambda: next((e for e in self.all(selector) if e.is_displayed()), None)
        )

    def click(self, selector):
        self.wait(lambda: self.first(selector).click() or True)

    def value(self, name):
        return self.all(f"#{name} textarea")[0].get_attribute("value")

    def choose(self, label, locale):
        self.click(f"input[role=combobox][aria-label='{label}']")
        self.click(f"[role=option][aria-label='{locale}']")

    def upload(self, name, paths):
        inputs = self.wait(lambda: self.all(f"#{name} input[type=file]"))
        inputs[0].send_keys("\n".join(map(str, paths)))

    def upload_clip(self, path):
        self.upload("clip", [path])

    def transcribe_clip(self):
        """Press the button when the clip is there; wait until it is gone."""
        self.first("#clip [aria-label=Clear]")
        self.click("#transcribe")
        self.wait(lambda: not self.all("#clip [aria-label=Clear]"))

    def open_second_tab(self):
        self.all("button[role=tab]")[1].click()

    def upload_files(self, paths):
        self.upload("files", paths)

    def transcribe_files(self):
        self.click("#transcribe-all")
        self.first("[data-testid=cell-0-0]")
        return self.rows()

    def rows(self):
        cells = self.all("#table [data-testid^=cell-]")
        texts = [cell.get_attribute("textContent").strip() for cell in cells]
        return [texts[i : i + 4] for i in range(0, len(texts), 4)]

    def network(self, method):
        """What has happened in the browser's network since this was last called."""
        events = self.browser.get_log("performance")
        events = [json.loads(event["message"])["message"] for event in events]
        return [event["params"] for event in events if event["method"] == method]

    def hosts(self):
        """Whom the browser has asked for anything since this was last called."""
        requests = self.network("Network.requestWillBeSent")
        urls = [urlsplit(event["request"]["url"]) for event in requests]
        return {url.hostname for url in urls if url.scheme.startswith(("http", "ws"))}

    def has_uploaded(self):
        """Whether an upload has been answered since the network was last looked at."""
        answers = self.network("Network.responseReceived")
        paths = [urlsplit(event["response"]["url"]).path for event in answers]
        return any(path.endswith("/upload") for path in paths)


class StandIn:
    """Answers at once: each file's sample rate, and markup."""

    bank = SimpleNamespace(locales=["eo", "hsb"])

    def transcribe_files(self, paths, locales, progress=True, max_seconds=None):
        return [
            Transcription(
                path,
                locale,
                [Segment(0, 1, f"{soundfile.info(path).samplerate} Hz {MARKUP}")],
            )
            for path, locale in zip(paths, locales, strict=True)
        ]


@pytest.fixture(scope="module")
def clips(real_speech):
    return sorted((real_speech / "hsb" / "clips").glob("*.mp3"))[:3]


@pytest.fixture(scope="module")
def transcriber(whisper_base, tmp_path_factory):
    """Languages of one's own, or two that say other things than Whisper alone."""
    made = Languages(tmp_path_factory.mktemp("demo"), whisper_base, std=0.003)
    folder = os.environ.get("DEMO_ADAPTERS")
    if folder is None:
        folder = made.folder / "adapters"
        for seed, locale in enumerate(["eo", "hsb"]):
            model = made.model(seed, context="clip")
            made.save(f"adapters/{locale}", model, locale=locale)
    return Transcriber.from_adapters(folder, whisper_base, max_tokens=40, **made.places)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def show(browser):
    """Opens the page of a transcriber; it is closed after the test."""
    with contextlib.ExitStack() as stack:

        def show(transcriber, **limits):
            with closing(socket.socket()) as free:
                free.bind((LOOPBACK, 0))
                port = free.getsockname()[1]
            page = stack.enter_context(running(transcriber, port=port, **limits))
            return Page(browser, page.local_url)

        yield show


def uploads():
    """Files with anything in them in Gradio's folder; it makes empty ones, too."""
    files = Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*")
    return [file for file in files if file.is_file() and file.stat().st_size]


def test_the_page_shows_what_the_transcriber_says(show, transcriber, clips, tmp_path):
    locale, clip = transcriber.bank.locales[-1], clips[0]
    expected = [
        result.text
        for result in transcriber.transcribe_files(
            [clip, clip], [locale, None], progress=False
        )
    ]
    assert all(expected) and len(set(expected)) == 2
    page = show(transcriber)
    page.choose("Language", locale)
    page.upload_clip(clip)
    page.transcribe_clip()
    assert [page.value("adapted"), page.value("unadapted")] == expected
    assert not page.all("#error")
    assert not uploads()
    screenshot = os.environ.get("DEMO_SCREENSHOT") or tmp_path / "demo.png"
    assert page.browser.save_screenshot(str(screenshot))


def test_each_file_is_transcribed_in_its_own_language(
    show, transcriber, clips, tmp_path
):
    bad = tmp_path / "bad.wav"
    bad.write_text("these are notes, not audio")
    paths = [clips[0], bad, clips[1], clips[2]]
    first, last = transcriber.bank.locales[0], transcriber.bank.locales[-1]
    locales = [last, first, first, last]
    expected = transcriber.transcribe_files(paths, locales, progress=False)
    page = show(transcriber)
    page.open_second_tab()
    page.upload_files(paths[:1])
    page.choose(paths[0].name, locales[0])
    page.upload_files(paths[1:])  # which must not change the choice above
    for path, locale in zip(paths[1:], locales[1:], strict=True):
        page.choose(path.name, locale)
    rows = page.transcribe_files()
    assert [row[:3] for row in rows] == [
        [path.name, locale, result.text]
        for path, locale, result in zip(paths, locales, expected, strict=True)
    ]
    assert [row[3] for row in rows] == [
        "",
        expected[1].error.replace(str(bad), "bad.wav"),
        "",
        "",
    ]
    assert not uploads()


def test_a_text_named_wav_is_one_sentence(show, transcriber, tmp_path):
    notes = tmp_path / "notes.wav"
    notes.write_text("these are notes, not audio\n" * 9)
    [expected] = transcriber.transcribe_files([notes], [None], progress=False)
    page = show(transcriber)
    page.upload_clip(notes)
    page.transcribe_clip()
    error = page.value("error")
    assert error == expected.error.replace(str(notes), "notes.wav")
    assert error.startswith("notes.wav ") and len(error) < 150
    assert page.value("adapted") == page.value("unadapted") == ""
    assert not uploads()


def test_texts_are_shown_as_text_and_nobody_else_is_asked(show, clips):
    asked = set()
    listening = True

    def listen(event, arguments):
        if listening and event == "socket.getaddrinfo":
            asked.add(arguments[0])
        # The address of a local socket is a path.
        if listening and event == "socket.connect" and type(arguments[1]) is tuple:
            asked.add(arguments[1][0])

    sys.addaudithook(listen)
    page = show(StandIn())
    page.upload_clip(clips[0])
    page.transcribe_clip()
    assert page.value("adapted") == f"32000 Hz {MARKUP}"
    page.open_second_tab()
    page.upload_files(clips[:2])
    rows = page.transcribe_files()
    assert [row[2] for row in rows] == [f"32000 Hz {MARKUP}"] * 2
    assert page.browser.title == "speechbrain-sumra"  # no markup was run
    assert page.hosts() == {LOOPBACK}
    assert asked and asked <= {LOOPBACK, "localhost"}
    listening = False


def test_speech_can_be_recorded(show):
    page = show(StandIn())
    page.click("#clip [aria-label='Record audio']")
    page.click("#clip .record-button")
    # A second of speech: the clock starts when the recorder does.
    page.wait(lambda: any(e.text > "0:00" for e in page.all("#clip time.duration")))
    page.click("#clip .stop-button")
    # Once the page knows: one click is one answer, and a second would find no clip.
    page.wait(page.has_uploaded)
    assert uploads()
    page.click("#transcribe")
    text = page.wait(lambda: page.value("adapted"))
    assert text.endswith(f"00 Hz {MARKUP}")
    assert not uploads()


def test_too_much_is_refused_in_one_sentence(show, tmp_path):
    long, large = tmp_path / "long.wav", tmp_path / "large.wav"
    soundfile.write(long, [0.0] * 16000 * 6, 16000)
    soundfile.write(large, [0.0] * 16000 * 20, 16000)
    page = show(StandIn(), max_megabytes=0.5, max_seconds=5)
    page.click("#transcribe")
    page.first("#error")
    assert page.value("error") == "Upload or record a clip first."
    page.upload_clip(long)
    page.transcribe_clip()
    assert page.value("error").startswith("long.wav is longer than 5 s")
    page.upload_clip(large)
    assert "exceed the maximum allowed size" in page.first(".toast-body").text
    assert not uploads()
