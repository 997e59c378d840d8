"""Serves the demo page: a socket, limits, and nothing from elsewhere.

Above this file: `command.py`. Below it: `page.py`.
"""

import contextlib
import ipaddress
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from s4m_sb.errors import InputError
from s4m_sb.system.folders import own_folder
from s4m_sb.system.processes import ended_by_sigterm

KEEP_S = 3600  # what a page shows can be played and downloaded so long
FRAME_BYTES = 2**16  # of a request, around the file in it
MOST_JSON_BYTES = 2**20  # of a request without a file
GOODBYE_S = 1  # what open pages get when the server ends

# The browser itself refuses what comes from another host. Gradio's page has
# scripts and styles in it, and plays and draws what it makes as blobs.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host.

    Arguments
    ---------
    host : str
        Name or address.

    Returns
    -------
    bool
        False in doubt.

    Example
    -------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Opens the socket of a server.

    Arguments
    ---------
    host : str
        Name or address to listen on.
    port : int
        0 for any that is free.

    Returns
    -------
    socket.socket
        It listens.

    Raises
    ------
    InputError
        If it cannot, as when another server has the port, or there is no
        such port.

    Example
    -------
    >>> with listen("127.0.0.1", 0) as server:
    ...     server.getsockname()[0]
    '127.0.0.1'
    """
    if not 0 <= port < 2**16:  # more would be wrapped
        raise InputError(f"port is {port}; give 0 to {2**16 - 1}")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot listen on port {port} of {host} ({reason}); give another "
            "--port or --host"
        ) from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """Where uploads and results lie while the server runs.

    Each of its files is removed after an hour, and all of it afterwards, also
    when the process is asked to end by SIGTERM; after SIGKILL by the next one.

    Yields
    ------
    str
        The folder.
    """

    with (
        ended_by_sigterm(),
        own_folder("s4m-demo-") as path,
        _without_old_files(path),
    ):
        folder = str(path)
        # Gradio reads these when it is imported and when pages are made.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        yield folder


@contextlib.contextmanager
def _without_old_files(folder: Path) -> Iterator[None]:
    """Removes, while it runs, whatever nobody has touched for `KEEP_S`.

    Not Gradio, which knows of what a page shows alone: not of an upload whose
    sender has fallen silent.
    """
    ended = threading.Event()

    def remove() -> None:
        while not ended.wait(KEEP_S / 4):
            before = time.time() - KEEP_S
            for place, _, names in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):  # gone, or not empty
                    old = os.lstat(place).st_ctime < before
                    for path in (Path(place, name) for name in names):
                        if path.lstat().st_ctime < before:
                            path.unlink()
                    if old and place != str(folder):
                        os.rmdir(place)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def serve(page, server: socket.socket, max_megabytes: float, host: str) -> None:
    """Serves a page until the process is interrupted.

    Arguments
    ---------
    page : gradio.Blocks
        The page.
    server : socket.socket
        Listens.
    max_megabytes : float
        The largest request, in 2^20 bytes; more is not even received.
    host : str
        What ``server`` was asked to listen on. If only this machine reaches
        it, requests that were sent to another name are refused. Those of
        other web sites' pages are refused in any case.
    """
    import fastapi
    import gradio
    import uvicorn

    from s4m_sb.commands.demo.page import CSS, THEME

    # Not `page.launch`, which asks itself through a proxy, if there is one,
    # and shares the page with the world on some machines.
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=round(max_megabytes * 2**20),
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        app_kwargs={"openapi_url": None},
        enable_monitoring=False,
        theme=THEME,
        css=CSS,
    )
    app = _with_bounds(_without_relay(app), round(max_megabytes * 2**20))
    app = _without_foreign_pages(app)
    if is_loopback(host):
        app = _with_hosts(app, host)
    config = uvicorn.Config(
        with_policy(app),
        log_level="warning",
        timeout_graceful_shutdown=GOODBYE_S,
    )
    uvicorn.Server(config).run(sockets=[server])


def _without_relay(app: Callable) -> Callable:
    """Answers no request for what lies at another web address.

    Gradio would fetch it, and whatever page that is would count as this one.
    """
    from fastapi.responses import PlainTextResponse

    async def answer(scope, receive, send):
        chosen = app
        if re.search("[=/] *https?:", scope.get("path", ""), re.IGNORECASE):
            chosen = PlainTextResponse("Not Found", status_code=404)
        await chosen(scope, receive, send)

    return answer


def _with_bounds(app: Callable, max_bytes: int) -> Callable:
    """Refuses requests that are too large, and leaves nothing of any.

    Gradio bounds every file of an upload, not all of them, and keeps the
    beginning of one whose sender has gone. What is wrong with its form, the
    way in which both are told here, makes it remove them.
    """
    from fastapi import HTTPException
    from fastapi.responses import PlainTextResponse
    from gradio.route_utils import MultiPartException

    reason = "The request is larger than the maximum allowed size."

    async def answer(scope, receive, send):
        is_upload = scope.get("path", "").endswith("/upload")
        most = max_bytes + FRAME_BYTES if is_upload else MOST_JSON_BYTES
        num_bytes, is_whole = 0, False

        async def receive_bounded():
            nonlocal num_bytes, is_whole
            message = await receive()
            if message["type"] == "http.request":
                num_bytes += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if num_bytes > most:
                    if is_upload:
                        raise MultiPartException(reason)
                    raise HTTPException(413, reason)
            elif is_upload and not is_whole:
                raise MultiPartException("The upload was cut off.")
            return message

        said = dict(scope.get("headers", ())).get(b"content-length", b"0")
        if int(said) > most:
            refusal = PlainTextResponse(reason, status_code=413)
            await refusal(scope, receive, send)
        else:
            await app(scope, receive_bounded, send)

    return answer


def _without_foreign_pages(app: Callable) -> Callable:
    """Refuses what the pages of other web sites ask for.

    A browser sends it, and only keeps the answer from them.
    """
    from fastapi.responses import PlainTextResponse

    async def answer(scope, receive, send):
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        chosen = app
        if origin is not None:
            host = headers.get(b"host", b"")
            if origin.lower().partition(b"://")[2] != host.lower():
                chosen = PlainTextResponse("Forbidden", status_code=403)
        await chosen(scope, receive, send)

    return answer


def _with_hosts(app: Callable, host: str) -> Callable:
    """Refuses requests that were sent to a name of another machine.

    A web site may let its name lead here, and its pages would then count as
    this one's.
    """
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    own = {"localhost", "127.0.0.1", host}
    # Starlette before 1.0 takes of "[::1]:80" what stands before a colon.
    own |= {"[::1]", "["}
    if ":" in host:
        own.add(f"[{host}]")
    return TrustedHostMiddleware(app, sorted(own), www_redirect=False)


def with_policy(app: Callable) -> Callable:
    """Adds a header to all answers by which browsers ask no other host.

    Arguments
    ---------
    app : Callable
        An ASGI application.

    Returns
    -------
    Callable
        An ASGI application.
    """
    headers = [
        (b"content-security-policy", POLICY.encode()),
        (b"referrer-policy", b"no-referrer"),
    ]

    async def answer(scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), *headers],
                }
            await send(message)

        await app(scope, receive, send_with_policy)

    return answer
