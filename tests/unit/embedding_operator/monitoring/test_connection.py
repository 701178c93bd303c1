"""A server that answers wrongly: error messages, bounds, and no credential."""

import asyncio
import ssl

import pytest

from dev.cluster import certificates
from embedding_operator.monitoring import endpoints
from embedding_operator.monitoring.answers import NoAnswer, NotUnderstood, bounded
from embedding_operator.monitoring.connection import Connection

TOKEN = "token-of-the-administrator"
BODY_BYTES = 65_536
WHOLE_SECONDS = 60.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def head(*lines, status="200 OK"):
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


class Server:
    """Answers each request with these pieces, and one without end where given, then closes."""

    def __init__(
        self,
        *pieces: bytes,
        endless: bytes = b"",
        pause_seconds: float = 0.0,
        silent_seconds: float = 0.0,
    ) -> None:
        self._pieces = pieces
        self._silent_seconds = silent_seconds
        self._pause_seconds = pause_seconds
        self._endless = endless
        self.heads: list[bytes] = []

    async def __call__(self, reader, writer):
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(self._silent_seconds)
            for piece in self._pieces:
                writer.write(piece)
                await writer.drain()
            while self._endless:
                writer.write(self._endless)
                await writer.drain()
                await asyncio.sleep(self._pause_seconds)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, as it should
        finally:
            writer.transport.abort() if self._endless else writer.close()


class PlainText(Server):
    """Answers before anything like a request has come."""

    async def __call__(self, reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()


def ask(
    server,
    *,
    context=None,
    scheme="http",
    observe=lambda _: None,
    whole_seconds=WHOLE_SECONDS,
    **files,
):
    """What a GET of /api/v1/rules gives."""

    async def run():
        listening = await asyncio.start_server(server, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        made = endpoints.Endpoint(url=f"{scheme}://127.0.0.1:{port}/prefix", **files)
        connection = Connection(
            made, body_bytes=BODY_BYTES, whole_seconds=whole_seconds, observe=observe
        )
        try:
            return await connection.get("/api/v1/rules", [("a", "b c")])
        finally:
            listening.close()

    return asyncio.run(run())


def refused(server, **more):
    with pytest.raises(NoAnswer) as raised:
        ask(server, **more)
    failure = raised.value
    assert failure.message.startswith("127.0.0.1:")
    assert TOKEN not in str(failure)
    assert TOKEN not in repr(failure)
    return failure


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def test_request_goes_below_path_of_url_with_token_and_no_coding(token_file):
    server = Server(OK)
    outcomes: list[str] = []
    assert ask(server, bearer_file=token_file, observe=outcomes.append) == b"{}"
    assert outcomes == ["ok"]
    asked = server.heads[0].decode().lower()
    assert asked.startswith("get /prefix/api/v1/rules?a=b+c http/1.1") or "a=b%20c" in asked
    assert f"authorization: bearer {TOKEN}" in asked
    assert "accept-encoding: identity" in asked


def test_basic_auth_and_headers_come_from_files_each_time(tmp_path):
    (tmp_path / "basic").mkdir()
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "..data").mkdir()  # as kubelet mounts a Secret
    (tmp_path / "basic" / "username").write_text("user")
    (tmp_path / "basic" / "password").write_text("first")
    (tmp_path / "headers" / "X-Scope-OrgID").write_text("team-1\n")
    files = {"basic_directory": tmp_path / "basic", "headers_directory": tmp_path / "headers"}
    server = Server(OK)
    ask(server, **files)
    (tmp_path / "basic" / "password").write_text("second")
    ask(server, **files)
    assert b"Basic dXNlcjpmaXJzdA==" in server.heads[0]
    assert b"Basic dXNlcjpzZWNvbmQ=" in server.heads[1]
    assert b"X-Scope-OrgID: team-1\r\n" in server.heads[0]


@pytest.mark.parametrize(
    ("server", "reason", "told"),
    [
        (Server(head(status="401 Unauthorized")), "Unauthorized", "401"),
        (Server(head(status="403 Forbidden")), "Unauthorized", "403"),
        (Server(head(status="404 Not Found")), "NoSuchAPI", "check the URL's path"),
        (Server(head(f"Location: http://x/{TOKEN}", status="302 Found")), "Redirected", "302"),
        (Server(head(status="503 Service Unavailable")), "ServerFailing", "503"),
        (
            Server(head("Content-Length: 100"), b'{"status"'),
            "AnswerCut",
            "sends an incomplete answer",
        ),
        (Server(), "AnswerCut", "sends an incomplete answer"),
        (Server(b"\x00\x01 nonsense"), "AnswerCut", "sends an incomplete answer"),
        (Server(head("Content-Encoding: gzip"), b"\x1f\x8b"), "NotUnderstood", "compresses"),
        (Server(head(), b" " * (BODY_BYTES + 1)), "AnswerTooLarge", "monitoring.maxBodyMiB"),
        (Server(head(), endless=b" " * 4096), "AnswerTooLarge", "more than"),
        (Server(head(), endless=b" ", pause_seconds=0.1), "Slow", "within 1 s"),
        (Server(b"HTTP/1.1 200 OK\r\n", endless=b"a: b\r\n", pause_seconds=0.1), "Slow", "1 s"),
        (Server(endless=b"HTTP/1.1 102 P\r\n\r\n", pause_seconds=0.1), "Slow", "1 s"),
        (Server(silent_seconds=30), "Slow", "within 1 s"),
    ],
)
def test_failure_has_reason_and_host_and_is_bounded(server, reason, told, token_file):
    outcomes: list[str] = []
    failure = refused(
        server,
        bearer_file=token_file,
        observe=outcomes.append,
        whole_seconds=1.0 if reason == "Slow" else WHOLE_SECONDS,
    )
    assert failure.reason == reason
    assert told in failure.message
    assert outcomes == [reason]


def test_closed_port_is_unreachable(tmp_path):
    connection = Connection(endpoints.Endpoint(url="http://127.0.0.1:1"), body_bytes=BODY_BYTES)
    with pytest.raises(NoAnswer, match=r"127\.0\.0\.1:1 cannot be reached") as raised:
        asyncio.run(connection.get("/"))
    assert raised.value.reason == "Unreachable"


def test_certificate_of_unknown_authority_is_told_in_tls_words(tmp_path, token_file):
    context, _ = tls(tmp_path / "theirs")
    failure = refused(Server(OK), context=context, scheme="https", bearer_file=token_file)
    assert failure.reason == "TLSFailed"
    assert "certificate" in failure.message


def test_private_authority_is_trusted_where_it_is_named(tmp_path):
    context, authority = tls(tmp_path / "ours")
    assert ask(Server(OK), context=context, scheme="https", ca_file=authority) == b"{}"
    _, other = tls(tmp_path / "other")
    assert refused(Server(OK), context=context, scheme="https", ca_file=other).reason == "TLSFailed"


def test_plain_http_on_tls_url_is_told(tmp_path):
    assert refused(PlainText(), scheme="https").reason == "TLSFailed"


@pytest.mark.parametrize("name", ["missing", "empty", "newline", "binary", "folder"])
def test_credentials_that_cannot_be_used_are_named_by_their_file(tmp_path, name):
    file = tmp_path / name
    contents = {"empty": b"", "newline": b"a\r\nX: y", "binary": b"\xff\xfe"}
    if name in contents:
        file.write_bytes(contents[name])
    if name == "folder":
        file.mkdir()
    server = Server(OK)
    failure = refused(server, bearer_file=file)
    assert failure.reason in {"CredentialsMissing", "CredentialsUnusable"}
    assert str(file) in failure.message
    assert server.heads == []


@pytest.mark.parametrize("name", ["Host", "Content-Length", "a b", "X:"])
def test_file_that_cannot_be_header_is_named(tmp_path, name):
    (tmp_path / name).write_text(TOKEN)
    assert name in refused(Server(OK), headers_directory=tmp_path).message


def test_invalid_authority_is_named(tmp_path):
    (tmp_path / "ca.crt").write_text("nonsense")
    for file in (tmp_path / "ca.crt", tmp_path / "missing"):
        failure = refused(Server(OK), scheme="https", ca_file=file)
        assert (failure.reason, str(file) in failure.message) == ("CAUnusable", True)


def test_answer_of_another_api_is_said_to_be_that():
    class Page(Connection):
        host = "prometheus:9090"

        def __init__(self):
            pass

        async def get(self, path, parameters=()):
            return b"<html>log in</html>"

    def understand(body):
        raise NotUnderstood("rules")

    with pytest.raises(NoAnswer, match="prometheus:9090 does not answer /x in the form") as it:
        asyncio.run(Page().read("/x", understand))
    assert it.value.reason == "NotUnderstood"


def test_words_of_server_are_one_short_printable_line():
    assert bounded("a\n\x1b[2Jb\t c") == "a ?[2Jb c"
    assert len(bounded("x" * 10_000)) < 310


def tls(folder):
    """A server's context for 127.0.0.1, and the file of its authority."""
    folder.mkdir(parents=True)
    authority = certificates.Authority()
    (folder / "ca.crt").write_bytes(authority.pair.certificate)
    authority.issue("server", hosts=("127.0.0.1",)).write(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context, folder / "ca.crt"
