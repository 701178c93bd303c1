"""A real sidecar that is given one policy after another, each of a new name.

What is known of a provider outlives an edit of its policy; a new name begins with nothing known.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedding_contract import document, fingerprint, names
from tests.parts import sidecar

KEY_FILE = "provider-key"


class Obeying:
    """A running sidecar, and the files it follows."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._document = folder / "policy.json"
        self._secrets = folder / "secrets"
        self._secrets.mkdir(parents=True)
        (self._secrets / names.SECRET_API_TOKEN).write_text(sidecar.TOKEN, encoding="utf-8")
        self._numbers = itertools.count(1)
        self.running = sidecar.Sidecar(
            *("--document", self._document, "--secrets", self._secrets),
            environment=environment,
            log=folder / "sidecar.log",
        )
        # Some servers take their time, and tests of them end by their own time-out.
        self.running.http.timeout = 100

    def obey(
        self,
        *,
        base_url: str,
        model: str,
        key: str | None = None,
        network: document.Network = document.Network(),  # noqa: B008 - frozen
        **more: Any,
    ) -> None:
        """Put a policy of one OpenAICompatible provider `p` in force; `more` is of the provider."""
        if key is not None:
            new = self._secrets / "..new"
            new.write_text(key, encoding="utf-8")
            new.replace(self._secrets / KEY_FILE)
        policy = document.PolicyDocument(
            namespace="tests",
            name=f"policy-{next(self._numbers)}",
            providers=(
                document.Provider(
                    **{
                        "name": "p",
                        "kind": "OpenAICompatible",
                        "model": model,
                        "base_url": base_url,
                        "api_key_file": None if key is None else KEY_FILE,
                        **more,
                    }
                ),
            ),
            quota=document.Quota(daily_requests=None),
            network=network,
        )
        text = document.dump(policy)
        new = self._document.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self._document)
        secrets = {it.name: it.read_bytes() for it in self._secrets.iterdir()}
        token = secrets[names.SECRET_API_TOKEN]
        fingerprints = {
            "document_fingerprint": fingerprint.of_document(text.encode()),
            "secrets_fingerprint": fingerprint.of_secrets(secrets, token=token),
        }

        def in_force() -> bool:
            answer = self.running.admin.get(names.PATH_CONFIG)
            return answer.is_success and fingerprints.items() <= answer.json().items()

        sidecar.wait_until(in_force)

    def vectors(self, *texts: str, model: str, **more: Any) -> list[str]:
        """The vectors in base64, of a request that must be answered."""
        answer = self.running.embed(*texts, model=model, **more)
        assert answer.status_code == 200, answer.text
        return [it["embedding"] for it in answer.json()["data"]]


@contextmanager
def obeying(folder: Path, **environment: str) -> Iterator[Obeying]:
    """One, until the end; it may have no fault that nobody thought of."""
    made = Obeying(folder, **environment)
    try:
        made.running.wait()
        yield made
    finally:
        code = made.running.stop()
    assert code == 0
    assert "Traceback" not in made.running.said()
