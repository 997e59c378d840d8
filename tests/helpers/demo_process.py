"""``s4m demo`` in a process of its own, and requests that no page makes."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import s4m_sb

EXAMPLE = Path(s4m_sb.__file__).parent / "examples" / "two_talkers.wav"
MAX_SECONDS = 20
MAX_MEGABYTES = 2
# `s4m`, which notes on stderr what it connects to.
PROGRAM = """
import sys
def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        print("asks", event, arguments, file=sys.stderr)
sys.addaudithook(note)
from s4m_sb.commands.demo import server
server.KEEP_S = float(sys.argv.pop(1))
from s4m_sb.commands.main import main
sys.exit(main())
"""


class Server:
    """``s4m demo`` in a process of its own."""

    def __init__(self, folder, *arguments, keep_s=3600):
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.stderr = folder / "stderr.txt"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", PROGRAM, str(keep_s)),
                *("demo", "--port", "0", *arguments),
            ],
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=self.stderr.open("wb"),
            text=True,
        )
        line = self.process.stdout.readline()
        self.url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]

    def asked(self):
        """What it has asked of any machine, but for its own address."""
        said = self.stderr.read_text().splitlines()
        assert [line for line in said if "Traceback" in line] == []
        asked = [line for line in said if line.startswith("asks")]
        # Looked up when it began to listen; this shows that it notes.
        own = [line for line in asked if "127.0.0.1" in line]
        assert len(own) == 1
        return [line for line in asked if line not in own]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


def post(server, path, body, content_type="application/json", **headers):
    """What the server answers to a request, as JSON."""
    request = urllib.request.Request(
        f"{server.url}/gradio_api/{path}",
        body,
        {"Content-Type": content_type, **headers},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def upload(server, *paths, **headers):
    """Where the server has put a file, the first one that it was sent."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="files"; '
        b'filename="%s"\r\n\r\n%s\r\n' % (path.name.encode(), path.read_bytes())
        for path in paths
    ]
    kind = "multipart/form-data; boundary=x"
    body = b"".join([*parts, b"--x--\r\n"])
    return post(server, "upload", body, kind, **headers)[0]
