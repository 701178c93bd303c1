"""A table that is searched: real PostgreSQL, a real sidecar, and a real search pod's process."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2

from embedding_contract import document as policy_document
from embedding_contract import index_document, names, proof
from embedding_contract.index_document import IndexDocument, Search, Target
from tests.fakes import provider
from tests.parts import ports, sidecar
from tests.parts.postgres import Postgres

PROGRAM = Path(sys.executable).parent / "embedding-vectors"
MODEL = "small"
DIMENSIONS = 16
POD_UID = "5e0c9e0c-6a3f-4f0e-9a52-3b0f1d8f7c11"
KEY_FILE = names.secret_provider_key("main")
ENDED_SECONDS = 20


def index(**changes: Any) -> IndexDocument:
    """An index over `docs`, whose vectors are the stand-in's."""
    base = IndexDocument(
        namespace="shop",
        name="docs",
        uid=str(uuid.uuid4()),
        policy="main",
        schema="public",
        table="docs",
        key_columns=("id",),
        text_columns=("body",),
        target=Target(model=MODEL, dimensions=DIMENSIONS, space="tests/small", column="embedding"),
        search=Search(filter_columns=("bucket", "lang"), return_columns=("body",)),
    )
    return dataclasses.replace(base, **changes)


def body(**fields: Any) -> bytes:
    """The body of a search."""
    return json.dumps(fields).encode()


def report_proof() -> proof.Credentials:
    """A proof for the report of a pod, as the operator signs it."""
    return proof.sign_request(
        sidecar.TOKEN,
        method="GET",
        path=names.PATH_INDEX,
        nonce=f"{time.monotonic_ns():032x}",
        time=int(time.time()),
        pod=POD_UID,
    )


def as_text(vector: Sequence[float]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(repr, vector)) + "]"


class SearchPod:
    """A running `embedding-vectors serve`, and the files that its pod has."""

    def __init__(
        self,
        folder: Path,
        *,
        document: IndexDocument | None,
        dsn: str,
        sidecar_port: int,
        port: int | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = port or ports.free()
        self._sidecar_port = sidecar_port
        self.log = folder / "log"
        self.document_file = folder / names.INDEX_KEY
        self._dsn = folder / names.DSN_FILE
        token = folder / names.SECRET_API_TOKEN
        token.write_text(sidecar.TOKEN, encoding="utf-8")
        self.set_dsn(dsn)
        if document is not None:
            self.obey(document)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(PROGRAM, "serve", "--port", str(self.port)),
                    *("--document", self.document_file, "--dsn-file", self._dsn),
                    *("--token-file", token),
                    *("--sidecar", f"http://127.0.0.1:{sidecar_port}"),
                ],
                env={"PATH": os.environ["PATH"], names.ENV_POD_UID: POD_UID},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False
        )
        sidecar.wait_until(self._answers)

    def obey(self, document: IndexDocument) -> None:
        """Swap the document's file in one step."""
        self.document = document
        new = self.folder / "new"
        new.write_text(index_document.dump(document), encoding="utf-8")
        new.replace(self.document_file)

    def set_dsn(self, dsn: str) -> None:
        """Swap the DSN's file."""
        new = self.folder / "new-dsn"
        new.write_text(dsn, encoding="utf-8")
        new.replace(self._dsn)

    def apply(self) -> None:
        """Run the plan's SQL, as a person would."""
        done = subprocess.run(
            [PROGRAM, "apply", "--document", self.document_file, "--dsn-file", self._dsn],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def backfill(self, *arguments: str, port: int | None = None) -> subprocess.Popen[bytes]:
        """A worker of the same index, started."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(PROGRAM, "backfill", "--port", str(port or ports.free())),
                    *arguments,
                    *("--document", self.document_file, "--dsn-file", self._dsn),
                    *("--token-file", self.folder / names.SECRET_API_TOKEN),
                    *("--sidecar", f"http://127.0.0.1:{self._sidecar_port}"),
                ],
                env={"PATH": os.environ["PATH"], names.ENV_POD_UID: POD_UID},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def report(self) -> dict[str, Any]:
        """What the operator would be told."""
        answer = self.http.get(
            names.PATH_INDEX, headers={"Authorization": f"Bearer {sidecar.TOKEN}"}
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def metrics(self) -> dict[str, float]:
        """Its series, up to a second old."""
        lines = self.http.get(names.PATH_METRICS).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8")

    def stop(self) -> int:
        """End it; its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDED_SECONDS)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            return self.http.get(names.PATH_STARTED).is_success
        except httpx2.TransportError:
            return False


def policy(
    provider_url: str, *indexes: policy_document.Index, **changes: Any
) -> policy_document.PolicyDocument:
    """A policy with one provider, in the space that `index` expects."""
    base = policy_document.PolicyDocument(
        namespace="shop",
        name="main",
        providers=(
            policy_document.Provider(
                name="main",
                kind="OpenAICompatible",
                model=MODEL,
                base_url=provider_url,
                declared_space="tests/small",
                api_key_file=KEY_FILE,
            ),
        ),
        passthrough=policy_document.PassThrough(base_url=None),
        indexes=indexes,
    )
    return dataclasses.replace(base, **changes)


class PolicyFiles:
    """The files of a sidecar's pod."""

    def __init__(self, folder: Path, document: policy_document.PolicyDocument) -> None:
        folder.mkdir(exist_ok=True)
        self.document = folder / names.DOCUMENT_KEY
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        for name, value in ((names.SECRET_API_TOKEN, sidecar.TOKEN), (KEY_FILE, provider.KEY)):
            (self.secrets / name).write_text(value, encoding="utf-8")
        self.write(document)

    def write(self, document: policy_document.PolicyDocument) -> None:
        """Swap the document in one step."""
        new = self.document.with_name("new")
        new.write_text(policy_document.dump(document), encoding="utf-8")
        new.replace(self.document)


class World:
    """An application's sidecar in front of a search pod; the pod asks the same sidecar."""

    def __init__(
        self,
        folder: Path,
        *,
        server: Postgres,
        provider_url: str,
        document: IndexDocument,
        dsn: str | None = None,
        policy_changes: dict[str, Any] | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.server = server
        port = ports.free()
        served = policy_document.Index(
            name=document.name, uid=document.uid, url=f"http://127.0.0.1:{port}"
        )
        self.policy = policy(provider_url, served, **(policy_changes or {}))
        self.files = PolicyFiles(folder / "policy", self.policy)
        self.sidecar = sidecar.Sidecar(
            *("--document", self.files.document, "--secrets", self.files.secrets),
            environment={},
            log=folder / "sidecar.log",
        )
        self.sidecar.wait()
        self.pod = SearchPod(
            folder / "pod",
            document=document,
            dsn=dsn or server.dsn,
            sidecar_port=self.sidecar.port,
            port=port,
        )

    def ask(self, body: dict[str, Any] | bytes, **options: Any) -> Any:
        """POST a search as the application does; the response."""
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return self.sidecar.http.post(names.PATH_SEARCH, **given, headers=headers, **options)

    def search(self, query: str, **more: Any) -> dict[str, Any]:
        """The answer to a search that succeeds."""
        answer = self.ask({"query": query, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def stop(self) -> None:
        """End both processes."""
        self.pod.stop()
        self.sidecar.stop(signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[World]:
    """A world, ended afterwards."""
    world = World(folder, **options)
    try:
        yield world
    finally:
        world.stop()


def switch(server: Postgres, target: str, *, phase: str = "Switched", space: str = "") -> None:
    """Set a target's phase, as the worker does once it is filled."""
    server.execute(
        "UPDATE embedding_target SET phase = %s, space = coalesce(nullif(%s, ''), space)"
        " WHERE target = %s",
        (phase, space, target),
    )
