"""Requests that end: a limit on the time of a whole request and on the size of a response, and no redirects."""

from __future__ import annotations

import functools
import importlib
import os
import threading
import time
from typing import Any

from iapo.endpoints.replies import LONGEST_BODY

_GRACE = 0.5
"""Seconds that the one who waits grants the one who reads, whose own errors say more."""


def make_client(openai: Any, seconds: float) -> Any:
    """Makes the HTTP client of an `openai` client.

    Its timeouts count from byte to byte, so that an endpoint that drips is waited for without end. This one's are for
    the whole of a request: connecting, sending, and reading head and body. A body that is too long is cut off one byte
    after `iapo.endpoints.replies.LONGEST_BODY`, which then refuses it. A redirect is an error with its status: it would
    send the images, the key and the trust in the answers to another address than the one that was given.

    Args:
        openai: The package.
        seconds: Limit on the time of a request.
    """
    # The package's HTTP library has changed its name; its errors must be its own to be counted as timeouts.
    http = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

    class Client(openai.DefaultHttpxClient):
        def send(self, request: Any, *, stream: bool = False, **more: Any) -> Any:
            found: list[Any] = []
            end = time.monotonic() + seconds

            def read() -> None:
                try:
                    found.append(self._read(request, end, more))
                except Exception as error:  # noqa: BLE001 - raised again by the one who waits
                    found.append(error)

            # What no timeout reaches, such as a head that drips, is left to a thread that no exit waits for.
            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            thread.join(seconds + _GRACE)
            if not found:
                raise http.ReadTimeout(f"no whole response in {seconds:g} s", request=request)
            if isinstance(found[0], Exception):
                raise found[0]
            return found[0]

        def _read(self, request: Any, end: float, more: dict[str, Any]) -> Any:
            response = super().send(request, stream=True, **{**more, "follow_redirects": False})
            try:
                body = bytearray()
                for chunk in response.iter_bytes(2**16):
                    body += chunk
                    if len(body) > LONGEST_BODY:
                        break
                    if time.monotonic() > end:
                        raise http.ReadTimeout("the response drips", request=request)
            finally:
                response.close()
            # It holds the body as it was decoded. Headers as they came: they need not be ASCII.
            headers = [
                (name, value)
                for name, value in response.headers.raw
                if name.lower() not in (b"content-encoding", b"content-length", b"transfer-encoding")
            ]
            content = bytes(body[: LONGEST_BODY + 1])
            whole = http.Response(response.status_code, headers=headers, content=content, request=request)
            # Python knows encodings that are no such thing (`hex`, `bz2`), and fails where a header names one.
            whole.encoding = "utf-8"
            return whole

    certificates = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    return Client(timeout=seconds, follow_redirects=False, verify=_trusted(http, certificates))


@functools.cache
def _trusted(http: Any, certificates: tuple[str | None, str | None]) -> Any:
    """What a server's certificate is checked with, as the library does by default: read once, since that takes 40 ms.

    Args:
        http: The HTTP library.
        certificates: The variables in which the library finds another file or folder of authorities.
    """
    return http.create_ssl_context()
