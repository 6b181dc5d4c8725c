"""HTTP POST requests over kept-alive connections, bounded in time and in bytes.

libcurl, because a node asks for little, but often: a small request takes a quarter of the processor time that urllib3
needs for it. Nothing is taken from the environment (no proxy, no password), redirects are not followed, and nothing is
retried here, but for a kept connection that turns out to be closed already (libcurl then opens another one).
"""

import ssl

import pycurl

CONNECT, TIMEOUT = pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT
MEANING = {  # libcurl's own texts may quote the address, with keys in it
    pycurl.E_GOT_NOTHING: "closed without an answer",
    pycurl.E_PARTIAL_FILE: "the answer ended early",
    pycurl.E_SEND_ERROR: "closed while asking",
    pycurl.E_RECV_ERROR: "closed while answering",
    pycurl.E_BAD_CONTENT_ENCODING: "the answer's compression is damaged",
    pycurl.E_PEER_FAILED_VERIFICATION: "the server's certificate is not trusted",
    pycurl.E_SSL_CONNECT_ERROR: "no TLS with this server",
}


class PostError(Exception):
    """There is no whole answer. The text says why, without the address."""


class TooLong(PostError):
    """The answer has more bytes than are taken."""


class Poster:
    """Requests to one server, at `scheme://host:port`. Threads may share one: each call has a connection to itself.

    `timeout` bounds a whole call in seconds, `max_reply` the bytes of an answer, after decompression.
    """

    def __init__(self, server: str, headers: dict[str, str], timeout: float, max_reply: int) -> None:
        self._server, self._timeout, self._max_reply = server, timeout, max_reply
        # libcurl would ask the server for its consent before it sends a long body
        self._headers = ["Content-Type: application/json", "Expect:", *(f"{k}: {v}" for k, v in headers.items())]
        self._idle: list[pycurl.Curl] = []

    def close(self) -> None:
        """Closes the idle connections; a later call opens new ones."""
        while self._idle:
            self._idle.pop().close()

    def post(self, target: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises PostError."""
        try:
            handle = self._idle.pop()
        except IndexError:
            handle = self._connection()
        chunks: list[bytes] = []
        size = 0

        def take(chunk: bytes) -> int:
            nonlocal size
            size += len(chunk)
            if size > self._max_reply:
                return 0  # not what was given: libcurl ends it there
            chunks.append(chunk)
            return len(chunk)

        handle.setopt(pycurl.URL, self._server + target)
        handle.setopt(pycurl.POSTFIELDS, body)
        handle.setopt(pycurl.WRITEFUNCTION, take)
        try:
            handle.perform()
            answer = handle.getinfo(pycurl.RESPONSE_CODE), b"".join(chunks)
        except pycurl.error as error:
            self._idle.append(handle)
            if size > self._max_reply:
                raise TooLong(f"the answer is longer than {self._max_reply} bytes") from None
            raise PostError(self._reason(error.args[0], begun=bool(size))) from None
        except BaseException:  # Ctrl-C: the connection is in the middle of something
            handle.close()
            raise
        finally:
            chunks.clear()  # the idle connection would hold on to them
        self._idle.append(handle)
        return answer

    def _connection(self) -> pycurl.Curl:
        handle, trusted = pycurl.Curl(), ssl.get_default_verify_paths()
        for option, value in (
            (pycurl.HTTPHEADER, self._headers),
            (pycurl.TIMEOUT_MS, max(1, int(1000 * self._timeout))),
            (pycurl.ACCEPT_ENCODING, "gzip"),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PROXY, ""),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.NOPROGRESS, 0),
            (pycurl.XFERINFOFUNCTION, lambda *_: 0),  # so that Ctrl-C is heard while it waits
            (pycurl.CAINFO, trusted.cafile),
            (pycurl.CAPATH, trusted.capath),
        ):
            if value is not None:
                handle.setopt(option, value)
        return handle

    def _reason(self, code: int, *, begun: bool) -> str:
        if code in (CONNECT, pycurl.E_COULDNT_RESOLVE_HOST):
            return "cannot connect"
        if code == TIMEOUT:
            return f"no {'whole ' if begun else ''}answer within {self._timeout:g} s"
        return f"the connection failed ({MEANING.get(code, f'libcurl error {code}')})"
