"""Opening connections: every address is tried, names are resolved, certificates are checked."""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from embedding_sidecar import errors
from embedding_sidecar.translation import provider_api
from embedding_sidecar.upstream import answer_body, http1_dialer, http1_pool, tls_authorities
from tests.parts import loops, raw_server, whole_body
from tests.parts.callbacks import come

NAME = "provider.example"
UNKNOWN = ("name_unknown", False)
REFUSED = ("connection_refused", False)
UNTRUSTED = ("certificate_untrusted", False)
NO_TLS = ("tls_failed", False)


@pytest.fixture(params=loops.LOOPS)
def run(request):
    return functools.partial(loops.run, request.param)


@contextlib.asynccontextmanager
async def asking(**given):
    parts: dict[str, Any] = {
        "intake": answer_body.Intake(),
        "authorities": tls_authorities.Authorities(),
    }
    terms: dict[str, Any] = {"connect_seconds": 5.0, "dns_seconds": 10.0, **given}
    made = http1_pool.ConnectionPool(**parts, **terms)
    try:
        yield made
    finally:
        await made.close()


async def said(asked, url, *, within_seconds=10.0):
    """The body that is answered, or why there is none."""
    try:
        request = provider_api.HttpRequest(url, b"{}", {})
        answer = await come(asked.start, request, within_seconds=within_seconds)
    except errors.Unreachable as error:
        return error.reason, error.billed
    return answer.body


def saying(word: bytes):
    async def handler(reader, writer):
        while True:
            await raw_server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(word), word))

    return handler


def port_of(url: str) -> int:
    return int(url.rsplit(":", maxsplit=1)[-1].removesuffix("/v1"))


# --- names


class Names:
    """Stands in for DNS: `homes` are the addresses of NAME, `asked` tells how often they were."""

    def __init__(self, monkeypatch) -> None:
        self.homes: list[tuple[str, int]] = []
        self.asked = 0
        self.answering = threading.Event()
        self.answering.set()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host, port, *rest, **more):
        if host != NAME:
            return self._real(host, port, *rest, **more)
        self.asked += 1
        self.answering.wait()
        if not self.homes:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (
                socket.AF_INET6 if ":" in home else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (home, at),
            )
            for home, at in self.homes
        ]


@pytest.fixture
def names(monkeypatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def unused() -> Iterator[int]:
    """A port of 127.0.0.2 that refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        yield taken.getsockname()[1]


def test_name_that_nobody_has_was_never_asked(names):
    async def go():
        async with asking() as made:
            found = await said(made, f"http://{NAME}/v1")
            return found, await said(made, f"http://{NAME}/v1")

    assert loops.run("asyncio", go()) == (UNKNOWN, UNKNOWN)
    assert names.asked == 2


def test_every_address_is_tried(names, unused):
    async def go():
        async with raw_server.served(saying(b"ok")) as url, asking() as made:
            names.homes = [("127.0.0.2", unused), ("127.0.0.1", port_of(url))]
            return await said(made, f"http://{NAME}/v1")

    assert loops.run("asyncio", go()) == b"ok"


def test_address_that_does_not_answer_is_not_waited_for(names, monkeypatch):
    monkeypatch.setattr(http1_dialer, "NEXT_ADDRESS_SECONDS", 0.01)

    async def go():
        with raw_server.full() as full:
            async with raw_server.served(saying(b"ok")) as url, asking() as made:
                names.homes = [full, ("127.0.0.1", port_of(url))]
                return await said(made, f"http://{NAME}/v1")

    assert loops.run("asyncio", go()) == b"ok"


def test_connections_are_spread_over_addresses_of_name(names):
    async def go():
        async with (
            raw_server.served(saying(b"one")) as one,
            raw_server.served(saying(b"two")) as two,
            asking() as made,
        ):
            names.homes = [("127.0.0.1", port_of(it)) for it in (one, two)]
            return await asyncio.gather(*(said(made, f"http://{NAME}/v1") for _ in range(6)))

    assert sorted(loops.run("asyncio", go())) == [b"one"] * 3 + [b"two"] * 3


@pytest.mark.parametrize(("dns_seconds", "asked"), [(10, 1), (0, 3)])
def test_name_is_looked_up_seldom(names, dns_seconds, asked):
    async def closing(reader, writer):
        await raw_server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async def go():
        async with raw_server.served(closing) as url, asking(dns_seconds=dns_seconds) as made:
            names.homes = [("127.0.0.1", port_of(url))]
            return [await said(made, f"http://{NAME}/v1") for _ in range(3)]

    assert loops.run("asyncio", go()) == [b""] * 3
    assert names.asked == asked


def test_callers_share_one_look_up_of_name_and_may_leave(names):
    names.answering.clear()

    async def go():
        async with raw_server.served(saying(b"ok")) as url, asking() as made:
            names.homes = [("127.0.0.1", port_of(url))]
            first, *rest = [asyncio.create_task(said(made, f"http://{NAME}/v1")) for _ in range(5)]
            await asyncio.sleep(0.02)
            first.cancel()
            await asyncio.sleep(0.02)
            names.answering.set()
            return await asyncio.gather(*rest)

    assert loops.run("asyncio", go()) == [b"ok"] * 4
    assert names.asked == 1


def test_look_up_that_times_out_is_not_sent_and_not_logged(names):
    names.answering.clear()

    async def go():
        async with asking(connect_seconds=0.02) as made:
            found = await said(made, f"http://{NAME}/v1")
            (lookup,) = (task for task, _ in made._dialer._lookups.values())
            names.answering.set()
            await asyncio.wait([lookup])
            # Else asyncio would log it when it lets go of the task.
            return found, lookup._log_traceback

    assert loops.run("asyncio", go()) == (("connect_timeout", False), False)


def test_closing_ends_look_up(names):
    names.answering.clear()

    async def go():
        async with asking() as made:
            asked = asyncio.create_task(said(made, f"http://{NAME}/v1"))
            while not names.asked:  # noqa: ASYNC110 - a thread counts it
                await asyncio.sleep(0.001)
            (lookup,) = (task for task, _ in made._dialer._lookups.values())
            await made.close()
            found = await asked
            await asyncio.sleep(0)
            ended = lookup.cancelled() or lookup.cancelling() > 0
        names.answering.set()
        return found[1], ended

    assert loops.run("asyncio", go()) == (False, True)


def test_addresses_that_refuse_are_not_believed_any_longer(names, unused):
    async def go():
        async with raw_server.served(saying(b"ok")) as url, asking() as made:
            names.homes = [("127.0.0.2", unused)]
            before = await said(made, f"http://{NAME}/v1")
            names.homes = [("127.0.0.1", port_of(url))]
            return before, await said(made, f"http://{NAME}/v1")

    assert loops.run("asyncio", go()) == (REFUSED, b"ok")


def test_names_that_are_not_asked_for_any_more_are_forgotten():
    async def go():
        async with (
            raw_server.served(saying(b"ok"), host="0.0.0.0") as url,
            asking(dns_seconds=0) as made,
        ):
            for number in range(1, 20):
                home = url.replace("0.0.0.0", f"127.0.0.{number}")
                assert await said(made, home) == b"ok"
            return len(made._dialer._lookups)

    assert loops.run("asyncio", go()) <= 1


def test_address_of_ipv6_is_asked_by_its_own_name(run):
    heads = []

    async def handler(reader, writer):
        heads.append(await raw_server.request(reader))
        writer.write(raw_server.EMPTY)

    async def go():
        async with raw_server.served(handler, host="::1") as url, asking() as made:
            return await said(made, url), port_of(url)

    found, port = run(go())
    assert found == b""
    assert f"\r\nhost: [::1]:{port}\r\n".encode() in heads[0]


# --- certificates


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """Makes certificates; the first one of all is believed."""

    def make(*names):
        file = raw_server.certificate(tmp_path, *names)
        if "SSL_CERT_FILE" not in believed:
            believed["SSL_CERT_FILE"] = file
            monkeypatch.setenv("SSL_CERT_FILE", str(file))
        return raw_server.with_certificate(file)

    believed: dict[str, object] = {}
    return make


def test_certificate_that_is_believed_and_of_this_name_is_accepted(run, certificate):
    tls = certificate("localhost", "127.0.0.1")
    tls.set_alpn_protocols(["h2", "http/1.1"])
    spoken = []
    tls.set_servername_callback(lambda _, name, __: spoken.append(name))

    async def handler(reader, writer):
        spoken.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await saying(b"ok")(reader, writer)

    async def go():
        async with raw_server.served(handler, tls=tls) as url, asking() as made:
            by_name = url.replace("127.0.0.1", "localhost")
            return await said(made, by_name), await said(made, by_name), await said(made, url)

    assert run(go()) == (b"ok", b"ok", b"ok")
    # An address is no server name (RFC 6066, section 3).
    assert spoken == ["localhost", "http/1.1", None, "http/1.1"]


def test_large_body_goes_and_comes_whole_over_tls(run, certificate):
    tls = certificate("127.0.0.1")
    body = bytes(range(256)) * 8000

    async def echo(reader, writer):
        sent = (await raw_server.request(reader)).partition(b"\r\n\r\n")[2]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(sent) + sent)
        await writer.drain()

    async def go():
        came = whole_body.WholeBody()
        async with raw_server.served(echo, tls=tls) as url, asking() as made:
            request = provider_api.HttpRequest(url, body, {}, came)
            await come(made.start, request, within_seconds=10)
        return came.joined()

    assert run(go()) == body


@pytest.mark.parametrize(
    ("names", "believed"), [(["localhost"], True), (["127.0.0.1", "localhost"], False)]
)
def test_another_certificate_was_never_sent_anything(run, certificate, names, believed):
    if not believed:
        certificate("somebody.else")
    tls = certificate(*names)
    seen = []

    async def handler(reader, writer):
        seen.append(await reader.read())

    async def go():
        async with raw_server.served(handler, tls=tls) as url, asking() as made:
            return [await said(made, url) for _ in range(2)]

    assert run(go()) == [UNTRUSTED] * 2
    assert not any(seen)


def test_server_that_speaks_no_tls_was_never_sent_anything(run):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 This is no TLS\r\ncontent-length: 0\r\n\r\n")

    async def go():
        async with raw_server.served(plain) as url, asking() as made:
            return await said(made, url.replace("http://", "https://"))

    assert run(go()) == NO_TLS


@pytest.mark.parametrize("ends", ["time", "cancelled"])
def test_handshake_that_does_not_end_is_given_up_and_leaves_nothing(run, ends):
    async def go():
        reached, closed = asyncio.Event(), asyncio.Event()

        async def mute(reader, writer):
            reached.set()
            await reader.read()
            closed.set()

        async with raw_server.served(mute) as url:
            limit = 0.1 if ends == "time" else 10.0
            async with asking(connect_seconds=limit) as made:
                asked = asyncio.create_task(said(made, url.replace("http://", "https://")))
                await reached.wait()
                if ends == "cancelled":
                    await asyncio.sleep(0.02)
                    asked.cancel()
                await asyncio.wait([asked])
                await closed.wait()
                return "cancelled" if asked.cancelled() else asked.result()

    assert run(go()) == ("cancelled" if ends == "cancelled" else ("connect_timeout", False))


def test_closing_ends_handshake(run):
    async def go():
        reached = asyncio.Event()

        async def mute(reader, writer):
            reached.set()
            await reader.read()

        async with raw_server.served(mute) as url:
            async with asking() as made:
                asked = asyncio.create_task(said(made, url.replace("http://", "https://")))
                await reached.wait()
                await made.close()
                done, _ = await asyncio.wait([asked], timeout=2)
            return [it.result() for it in done]

    assert run(go()) == [("connect_timeout", False)]


def test_wrong_certificate_at_one_address_is_not_end(names, certificate):
    right, wrong = certificate(NAME), certificate("somebody.else")

    async def closing(reader, writer):
        await raw_server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")

    async def go():
        async with (
            raw_server.served(saying(b"no"), tls=wrong) as first,
            raw_server.served(closing, tls=right) as second,
            asking() as made,
        ):
            names.homes = [("127.0.0.1", port_of(it)) for it in (first, second)]
            return [await said(made, f"https://{NAME}/v1") for _ in range(2)]

    assert loops.run("asyncio", go()) == [b"ok", b"ok"]


def test_connection_cut_off_over_tls_is_lost(run, certificate):
    tls = certificate("127.0.0.1")

    async def cut(reader, writer):
        await raw_server.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()

    async def go():
        async with raw_server.served(cut, tls=tls) as url, asking() as made:
            return await said(made, url)

    assert run(go()) == ("connection_lost", True)


def test_authorities_are_read_once():
    first, second = tls_authorities.Authorities().context(), tls_authorities.Authorities().context()
    assert first is second
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.check_hostname


def test_authorities_are_read_again_when_their_file_changes(tmp_path, monkeypatch):
    """C3: a certificate that is replaced needs no restart; one that is being written, a moment."""
    seconds = [0.0]
    file = tmp_path / "ca.crt"
    file.write_bytes(raw_server.certificate(tmp_path, "a").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    believed = tls_authorities.Authorities(clock=lambda: seconds[0])
    first = believed.context()
    file.write_text("half", encoding="utf-8")
    assert believed.context() is first
    seconds[0] += tls_authorities.LOOK_SECONDS
    assert believed.context() is first
    file.write_bytes(raw_server.certificate(tmp_path, "b").read_bytes())
    assert believed.context() is first
    seconds[0] += tls_authorities.LOOK_SECONDS
    second = believed.context()
    assert second is not first
    assert second.get_ca_certs() != first.get_ca_certs()


def test_authorities_that_are_given_are_believed_beside_others(tmp_path, monkeypatch):
    """C3: a private authority does not put the public ones away."""
    one, other = (raw_server.certificate(tmp_path, name).read_text("utf-8") for name in ("a", "b"))
    (tmp_path / "ca.crt").write_text(one, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    plain = tls_authorities.Authorities().context().cert_store_stats()["x509"]
    assert tls_authorities.Authorities(other).context().cert_store_stats()["x509"] == plain + 1
    with pytest.raises(ValueError, match="no certificates"):
        tls_authorities.check("-----BEGIN")
