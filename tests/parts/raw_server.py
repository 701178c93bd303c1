"""A server that sends exactly the bytes of a test, and its certificates."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@contextlib.asynccontextmanager
async def served(
    handler: Handler, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server whose every connection is handled so, and then closed; its URL."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What goes wrong in it, such as a client that goes away, is what is tested.
        task = asyncio.create_task(handler(reader, writer))
        handling.add(task)
        await asyncio.wait([task])
        writer.close()

    listening = await asyncio.start_server(handle, host, port, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    try:
        yield f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/v1"
    finally:
        listening.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)


async def head(reader: asyncio.StreamReader) -> bytes:
    """The next head."""
    return await reader.readuntil(b"\r\n\r\n")


async def request(reader: asyncio.StreamReader) -> bytes:
    """The next request, whole."""
    lines = await head(reader)
    sizes = [
        int(it.split(b":")[1])
        for it in lines.split(b"\r\n")
        if it.lower().startswith(b"content-length:")
    ]
    return lines + await reader.readexactly(sum(sizes))


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Starts an answer, and never ends it."""
    await request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
    await reader.read()


@contextlib.contextmanager
def full() -> Iterator[tuple[str, int]]:
    """An address that accepts no more connections."""
    with socket.socket() as listening, contextlib.ExitStack() as ends:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = ends.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()


def certificate(folder: Path, *names: str) -> Path:
    """A certificate of these names or addresses that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_named(it) for it in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / f"{names[0]}.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


def with_certificate(file: Path) -> ssl.SSLContext:
    """What a server of this certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
