"""`secrets migrate` as a user types it, and a proxy before Vault where a test injects faults."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import hvac.exceptions
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.parts import vault

TIMEOUT_SECONDS = 60
MARK = "s3cr3t-"
"""What every secret value of these tests begins with, so that none is shown."""
KEYS = (
    "GITHUB_TOKEN",
    "SLACK_MISMATCH_WEBHOOK",
    "POSTHOG_API_KEY",
    "RESEND_API_KEY",
    "TRIGGER_API_KEY",
    "CLOUDFLARE_API_TOKEN",
)
SIX = {key: f"{MARK}{key.lower()}-$HOME-${{USER}}-\\n-'\"#=" for key in KEYS}
MOUNT, PATH = "agenticverz", "external-integrations"
TO = f"{MOUNT}/{PATH}"

OLD = {"OLD": f"{MARK}old", "NUMBER": 5, "NESTED": {"a": [1.5, None, "x"]}}
"""What somebody else keeps at the path."""

Happens = Callable[[int], Response | None]


class Cli:
    """The command in a home of its own. Whatever it says is searched for values.

    `program` is the kubectl plugin, as it starts twice as fast as the operator's own.
    """

    def __init__(self, folder: Path, *, address: str, token_file: Path) -> None:
        self.program = "embedding_operator.cli.kubectl_plugin"
        self.home = folder / "home"
        self.home.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "VAULT_ADDR": address,
            "VAULT_TOKEN": token_file.read_text(encoding="utf-8"),
        }

    def __call__(
        self, verb: str, *arguments: str | Path, stdin: str | None = None, **environment: str
    ) -> "Said":
        """Run a verb to its end."""
        process = self.start(verb, *arguments, **environment)
        output, error = process.communicate(stdin, timeout=TIMEOUT_SECONDS)
        return Said(process.returncode, output, error)

    def start(
        self, verb: str, *arguments: str | Path, **environment: str
    ) -> "subprocess.Popen[str]":
        """Begin a verb; a variable that is empty is not set."""
        given = {**self.environment, **environment}
        return subprocess.Popen(
            [sys.executable, "-m", self.program, "secrets", verb, *map(str, arguments)],
            env={name: value for name, value in given.items() if value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def env_file(self, values: Mapping[str, str] = SIX, name: str = ".env") -> Path:
        """These values in a .env file."""
        file = self.home / name
        file.write_text(
            "".join(f"{key}={_quoted(value)}\n" for key, value in values.items()),
            encoding="utf-8",
        )
        return file


class Said:
    """What a run said, and how it ended."""

    def __init__(self, code: int, output: str, error: str) -> None:
        assert MARK not in output + error, "a value was shown"
        assert "defect" not in error, error
        self.code = code
        self.output = output
        self.error = error

    def table(self) -> dict[str, str]:
        """What was said of each key."""
        lines = self.output.splitlines()
        assert lines[0].split() == ["KEY", "RESULT"]
        return {key: rest.strip() for key, _, rest in (it.partition(" ") for it in lines[1:-1])}


class Bao:
    """A server with the example's mount, as an administrator sees it."""

    def __init__(self, server: vault.Vault) -> None:
        self.server = server
        client = server.client()
        for mount in (MOUNT, "agenticverz2"):
            vault.mount_second_version(client, mount)
        client.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
        self.kv = client.secrets.kv.v2
        self.client = client

    def write(self, values: dict[str, Any]) -> None:
        """A new version of the example's path."""
        self.kv.create_or_update_secret(PATH, values, mount_point=MOUNT)

    def read(self) -> dict[str, Any]:
        """Its values."""
        values: dict[str, Any] = self._answer()["data"]
        return values

    def version(self) -> int:
        """Its newest version."""
        version: int = self._answer()["metadata"]["version"]
        return version

    def nothing(self) -> bool:
        """Whether the example's path has never been written."""
        try:
            self._answer()
        except hvac.exceptions.InvalidPath:
            return True
        return False

    def token(self, rules: str) -> str:
        """A token that may do this alone."""
        name = f"policy-{time.monotonic_ns()}"
        self.client.sys.create_or_update_policy(name, rules)
        made: str = self.client.auth.token.create(policies=[name], no_default_policy=True)["auth"][
            "client_token"
        ]
        return made

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.kv.read_secret_version(
            PATH, mount_point=MOUNT, raise_on_deleted_version=False
        )["data"]
        return answer


class Door:
    """Passes requests on to Vault. `before` and `after` one, by its number, a test may answer."""

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        self.before: Happens = lambda _: None
        self.after: Happens = lambda _: None
        self._address = address

    def app(self) -> Starlette:
        """The ASGI application."""
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(routes=[Route("/{path:path}", self._pass, methods=methods)])

    async def _pass(self, request: Request) -> Response:
        body = await request.body()
        # In a thread, where a test may do what takes time.
        return await run_in_threadpool(self._pass_on, request, body)

    def _pass_on(self, request: Request, body: bytes) -> Response:
        self.asked.append(f"{request.method} {request.url.path}")
        number = len(self.asked)
        instead = self.before(number)
        if instead is not None:
            return instead
        kept = {key: it for key, it in request.headers.items() if key.startswith("x-vault")}
        answer = httpx2.request(
            request.method, f"{self._address}{request.url.path}", content=body, headers=kept
        )
        return self.after(number) or Response(
            answer.content, answer.status_code, media_type="application/json"
        )


def all_keys(outcome: str) -> dict[str, str]:
    return dict.fromkeys(KEYS, outcome)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f"'{value}'" if "'" not in value else f'"{escaped}"'
