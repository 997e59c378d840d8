"""The demo page: a real server in its own process, a real browser."""

import configparser
import contextlib
import json
import os
import re
import shutil
import urllib.request
from io import BytesIO
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from demo_process import EXAMPLE, MAX_MEGABYTES, MAX_SECONDS, post, upload

import s4m_sb
from s4m_sb.audio.files import read_audio, write_audio
from s4m_sb.audio.resampling import resample
from s4m_sb.inference.interface import S4MSeparation

pytest.importorskip("gradio", reason="Gradio is not installed")

REPOSITORY = Path(__file__).resolve().parents[3]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Without these Chromium asks its maker's hosts for this and that.
FLAGS = (
    "--no-sandbox",  # which root cannot have; it sees only the page below
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
)
WAIT_MS = 120_000  # on a machine that is busy with other things


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed"
    )
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Page:
    """The page in a window of its own, and what it asks and complains of."""

    def __init__(self, browser, url, width=1400):
        self.view = browser.new_page(
            viewport={"width": width, "height": 900}, accept_downloads=True
        )
        self.view.set_default_timeout(WAIT_MS)
        self.url = url
        self.requests, self.errors = [], []
        self.view.on("request", lambda asked: self.requests.append(asked.url))
        self.view.on("pageerror", lambda error: self.errors.append(str(error)))
        self.view.on("console", self._note)
        self.view.goto(url)
        self.start.wait_for()

    def _note(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    @property
    def start(self):
        return self.view.get_by_role("button", name="Separate the voices")

    @property
    def clear(self):
        """The button that is there as long as there is a recording."""
        return self.view.locator("#recording").get_by_label("Clear")

    def upload(self, path):
        """Chooses a file, and waits until the page has it."""
        with self.received():
            self.view.set_input_files("#recording input[type=file]", path)

    @contextlib.contextmanager
    def received(self):
        """Waits until the page has the recording, and shows it."""
        with self.view.expect_response(re.compile("/upload")) as response:
            yield
        assert response.value.ok
        # Not the waveform, which what cannot be decoded has for a moment only.
        self.clear.wait_for()

    def wait_for_message(self, role):
        message = self.view.locator(f"#status [role={role}]")
        message.wait_for()
        return message.inner_text()

    def player(self, name):
        return self.view.get_by_role("group", name=name, exact=True)

    def download(self, part):
        """The name and the bytes that a player or the picture gives."""
        with self.view.expect_download() as download:
            part.get_by_role("link", name="Download").click()
        path = Path(download.value.path())
        return download.value.suggested_filename, path.read_bytes()


@pytest.fixture
def page(browser, server):
    page = Page(browser, server.url)
    yield page
    page.view.close()


def test_the_example_is_separated(page, server):
    page.upload(EXAMPLE)
    page.view.get_by_role("radio", name="s4m-8k:").check()
    page.start.click()
    message = page.wait_for_message("status")
    assert message == "two_talkers.wav: 2 voices in 6.7 s, by s4m-8k."

    mixture, sample_rate = read_audio(EXAMPLE)
    voices = S4MSeparation.from_hparams("s4m-8k").separate_file(
        EXAMPLE, chunk_s=30
    )[0]
    expected = {"Mixture": ("mix", mixture)}
    for i in range(2):
        expected[f"Voice {i + 1}"] = (f"s{i + 1}", voices[:, i])
    for name, (suffix, signal_) in expected.items():
        player = page.player(name)
        player.locator("#duration", has_text="0:07").wait_for()
        file_name, content = page.download(player)
        assert file_name == f"two_talkers_{suffix}.wav"
        samples, rate = soundfile.read(BytesIO(content), dtype="float32")
        assert rate == sample_rate
        # Another process, whose threads may sum in another order.
        torch.testing.assert_close(
            torch.from_numpy(samples), signal_, atol=1e-4, rtol=0
        )
    assert not page.player("Voice 3").is_visible()

    player = page.player("Voice 1")
    player.get_by_role("button", name="Play", exact=True).click()
    player.locator("#time", has_text="0:01").wait_for()

    picture = page.view.get_by_alt_text("Spectrograms of the mixture")
    assert picture.evaluate("image => image.naturalWidth") > 500
    file_name, content = page.download(page.view.locator("#picture"))
    assert file_name == "two_talkers.png"
    assert matplotlib.image.imread(BytesIO(content)).std() > 0.1

    assert page.errors == []
    allowed = (server.url + "/", f"blob:{server.url}/", "data:")
    assert [url for url in page.requests if not url.startswith(allowed)] == []
    assert len(page.requests) > 10


def test_the_keyboard_is_enough(page):
    def tab_to(name):
        for _ in range(60):  # once around, and out of the page between
            page.view.keyboard.press("Tab")
            focused = page.view.evaluate(
                "() => { const at = document.activeElement; "
                "return (at.closest('label') ?? at).innerText }"
            )
            if focused.strip().startswith(name):
                return
        raise AssertionError(f"{name} cannot be reached")

    tab_to("Use the example")
    page.view.keyboard.press("Enter")
    page.clear.wait_for()
    for name in ("s4m-8k", "three-voices"):
        model = page.view.get_by_role("radio", name=name)
        tab_to(name)
        page.view.keyboard.press("Space")
        model.and_(page.view.locator(":checked")).wait_for()
    tab_to("Separate the voices")
    page.view.keyboard.press("Enter")
    assert "3 voices in 6.7 s" in page.wait_for_message("status")
    page.player("Voice 3").locator("#duration", has_text="0:07").wait_for()
    assert page.errors == []


def test_a_recording_is_separated(page):
    page.view.get_by_role("button", name="Record audio").click()
    page.view.get_by_role("button", name="Record", exact=True).click()
    page.view.wait_for_timeout(1500)
    with page.received():
        page.view.get_by_role("button", name="Stop").first.click()
    page.start.click()
    assert "audio.wav: 3 voices in" in page.wait_for_message("status")
    assert page.errors == []


def test_what_cannot_be_separated_is_said(page, tmp_path):
    example, sample_rate = read_audio(EXAMPLE)
    broken = example.clone()
    broken[1000] = torch.nan
    (tmp_path / "text.wav").write_text("no audio " * 99)
    (tmp_path / "nothing.wav").touch()
    write_audio(tmp_path / "no samples.wav", example[:0], sample_rate)
    write_audio(tmp_path / "silence.wav", 0 * example, sample_rate)
    write_audio(tmp_path / "nan.wav", broken, sample_rate)
    soundfile.write(
        tmp_path / "long.flac", np.zeros(8000 * (MAX_SECONDS + 1)), 8000
    )
    page.start.click()
    message = page.wait_for_message("alert")
    assert message == "First record, upload or pick a recording."
    for name, expected in {
        "text.wav": "text.wav: cannot be read as audio",
        "nothing.wav": "nothing.wav: is empty",
        "no samples.wav": "no samples.wav: has no samples",
        "silence.wav": "silence.wav: is silent",
        "nan.wav": "nan.wav: holds NaN",
        "long.flac": "long.flac: lasts 21 s; this page takes recordings of up "
        "to 20 s",
    }.items():
        page.upload(tmp_path / name)
        page.start.click()
        page.view.locator("#status", has_text=expected).wait_for()
        assert not page.view.locator("#picture").is_visible()
        page.clear.click()

    # After all that it goes on, here with a stereo file at another rate.
    stereo = resample(example, 1, 6)
    soundfile.write(
        tmp_path / "stereo.wav", torch.stack([stereo] * 2, 1), 48000
    )
    page.upload(tmp_path / "stereo.wav")
    page.start.click()
    assert "stereo.wav: 3 voices in 6.7 s" in page.wait_for_message("status")


def test_a_large_file_is_not_sent(page, tmp_path):
    large = tmp_path / "large.wav"
    soundfile.write(large, np.zeros(MAX_MEGABYTES * 2**19 + 1), 8000)
    page.view.set_input_files("#recording input[type=file]", large)
    message = page.view.get_by_test_id("toast-body")
    message.wait_for()
    assert "maximum allowed size" in message.inner_text()


def test_two_narrow_windows_at_once(browser, server):
    pages = [Page(browser, server.url, width=400) for _ in range(2)]
    for page in pages:
        page.upload(EXAMPLE)
        page.start.click()
    for page in pages:
        assert "3 voices" in page.wait_for_message("status")
        width = "document.documentElement.scrollWidth"
        assert page.view.evaluate(width) == 400
        assert page.errors == []
        page.view.close()


def ask_to_separate(server, data):
    """What the server answers to a request that no page has made."""
    with urllib.request.urlopen(f"{server.url}/config") as answer:
        steps = json.load(answer)["dependencies"]
    (step,) = (step["id"] for step in steps if len(step["inputs"]) == 4)
    body = {"data": data, "fn_index": step, "session_hash": os.urandom(8).hex()}
    post(server, "queue/join", json.dumps(body).encode())
    with urllib.request.urlopen(
        f"{server.url}/gradio_api/queue/data"
        f"?session_hash={body['session_hash']}"
    ) as events:
        for line in events:
            event = json.loads(line.removeprefix(b"data: ").strip() or "{}")
            if event.get("msg") == "process_completed":
                return json.dumps(event)
    raise AssertionError("the server has not answered")


def as_file(path, **more):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}} | more


def test_only_what_was_uploaded_is_separated(server, tmp_path):
    outside = tmp_path / "outside.wav"
    shutil.copy(EXAMPLE, outside)
    place = Path(upload(server, outside))
    assert "2 voices" in ask_to_separate(server, [as_file(place), 1, 30, 4])
    link = tmp_path / "link.wav"
    link.symlink_to(outside)
    above = place.parent / "/".join([".."] * 30) / str(outside)[1:]
    for path in (outside, link, above):
        for more in ({}, {"is_stream": True}):
            said = ask_to_separate(server, [as_file(path, **more), 1, 30, 4])
            assert "only uploaded files are taken" in said
            assert "voices" not in said
    # The other inputs take no file, but would keep it to be downloaded.
    before = sorted(server.temporary.rglob("*"))
    for path in (outside, "HTTP://93.184.215.14/a.wav"):
        for data in ([as_file(path), 1, 30, 4], [None, as_file(path), 30, 4]):
            said = ask_to_separate(server, data)
            assert "only uploaded files are taken" in said
    assert sorted(server.temporary.rglob("*")) == before


def test_nobody_was_asked_for_all_this(server):
    assert server.asked() == []


def test_the_example_ships_with_the_package():
    from s4m_sb.commands.demo.page import EXAMPLE as offered

    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    patterns = config["options.package_data"]["s4m_sb"].split()
    package = Path(s4m_sb.__file__).parent
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert offered == EXAMPLE
    assert EXAMPLE in shipped
