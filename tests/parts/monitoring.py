"""Prometheus and Alertmanager of Debian as real processes on loopback, and a webhook receiver.

`Receiver` notes what Alertmanager delivers; `Alertmanager` routes to it; `Prometheus` scrapes
targets, evaluates rule files and tells the Alertmanager. Each may be stopped and started again on
what it kept. Neither needs a node.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dev.cluster import debian
from tests.parts import ports, sidecar

SECOND: Final = "1s"
READY_SECONDS: Final = 30
ENDED_SECONDS: Final = 20
NOTIFY_PATH: Final = "/notify"


def program(name: str) -> Path:
    """A program of Debian's prometheus or prometheus-alertmanager, installed where it is absent.

    Both read files below /usr/share/prometheus, so they are installed rather than unpacked.

    Raises:
        debian.PackageError: it is absent and cannot be installed; the text names the package.
    """
    package = "prometheus" if name in {"prometheus", "promtool"} else "prometheus-alertmanager"
    if debian.found(name) is None:
        debian.install([package])
    found = debian.found(name)
    assert found is not None, f"{package} brings no {name}"
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One scraped address, `host:port`, and the labels its series get (namespace, policy, pod)."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Process:
    """A server with an HTTP API on a port of loopback; its log is NAME.log in its folder."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = ports.free()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it on what it kept, and wait until it is ready."""
        with (self.folder / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        sidecar.wait_until(self._is_ready, seconds=READY_SECONDS)

    def stop(self) -> None:
        """End it in peace."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(ENDED_SECONDS)

    def close(self) -> None:
        """End it, and drop the connections to it."""
        self.stop()
        self.http.close()

    def said(self) -> str:
        """Its log."""
        return (self.folder / f"{self._name}.log").read_text(encoding="utf-8")

    def json(self, path: str, **parameters: str) -> Any:
        """The JSON that a GET of this path answers."""
        return self.http.get(path, params=parameters).raise_for_status().json()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._name} has ended: {self.said()}"
        try:
            return self.http.get("/-/ready").is_success
        except httpx2.TransportError:
            return False


class Prometheus(Process):
    """A Prometheus that scrapes and evaluates every second.

    Rule files are `rules(NAME, groups)`, in force after `reload()`; targets are in force once its
    file discovery has seen them, within a second or two.
    """

    def __init__(self, folder: Path, *, alertmanagers: Sequence[str] = ()) -> None:
        super().__init__("prometheus", folder)
        self._alertmanagers = alertmanagers
        (self.folder / "rules").mkdir(exist_ok=True)
        self.targets([])
        self._configure()
        self.start()

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""
        return [
            program("prometheus"),
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            "--rules.alert.resend-delay=1s",
            "--log.level=warn",
        ]

    def rules(self, name: str, groups: Sequence[Mapping[str, Any]]) -> Path:
        """Write a rule file; `reload` puts it in force."""
        file = self.rule_file(name)
        file.write_text(yaml.safe_dump({"groups": list(groups)}), encoding="utf-8")
        return file

    def rule_file(self, name: str) -> Path:
        """Where the rule file of this name is."""
        return self.folder / "rules" / f"{name}.yaml"

    def targets(self, targets: Sequence[Target]) -> None:
        """Scrape these and no others."""
        listed = [{"targets": [it.address], "labels": dict(it.labels)} for it in targets]
        temporary = self.folder / "targets.json.new"
        temporary.write_text(json.dumps(listed), encoding="utf-8")
        temporary.rename(self.folder / "targets.json")

    def reload(self) -> bool:
        """POST /-/reload; whether it could load its files."""
        return self.http.post("/-/reload").is_success

    def groups(self) -> list[dict[str, Any]]:
        """The rule groups that it has loaded."""
        found: list[dict[str, Any]] = self.json("/api/v1/rules")["data"]["groups"]
        return found

    def alerts(self, name: str, *, state: str = "firing") -> list[dict[str, Any]]:
        """The alerts of this name in this state."""
        found = self.json("/api/v1/alerts")["data"]["alerts"]
        return [it for it in found if it["labels"]["alertname"] == name and it["state"] == state]

    def query(self, expr: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """The instant vector of an expression: items with `metric` and `value`.

        `at` is a time in seconds since 1970; without it, now.
        """
        time_asked = {} if at is None else {"time": str(at)}
        answer = self.json("/api/v1/query", query=expr, **time_asked)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def up(self) -> int:
        """Scraped targets that answer."""
        active = self.json("/api/v1/targets")["data"]["activeTargets"]
        return sum(target["health"] == "up" for target in active)

    def _configure(self) -> None:
        made: dict[str, Any] = {
            "global": {"scrape_interval": SECOND, "evaluation_interval": SECOND},
            "rule_files": [str(self.folder / "rules" / "*.yaml")],
            "scrape_configs": [
                {
                    "job_name": "embedding",
                    "honor_labels": True,
                    "file_sd_configs": [
                        {
                            "files": [str(self.folder / "targets.json")],
                            "refresh_interval": SECOND,
                        }
                    ],
                }
            ],
        }
        if self._alertmanagers:
            listed = [url.removeprefix("http://") for url in self._alertmanagers]
            made["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": listed}]}]}
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")


class Alertmanager(Process):
    """An Alertmanager alone, so its cluster status is `disabled`.

    `route` None is one webhook receiver named `default` at `receiver_url`, without waiting;
    `route` and `receivers` otherwise stand in its configuration as they are.
    """

    def __init__(
        self,
        folder: Path,
        *,
        receiver_url: str | None = None,
        route: Mapping[str, Any] | None = None,
        receivers: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__("alertmanager", folder)
        hooks = [] if receiver_url is None else [webhook(receiver_url)]
        made = {
            "route": dict(route or {"receiver": "default", **AT_ONCE}),
            "receivers": list(receivers or [{"name": "default", "webhook_configs": hooks}]),
        }
        (folder / "alertmanager.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
        self.start()

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""
        return [
            program("prometheus-alertmanager"),
            f"--config.file={self.folder / 'alertmanager.yaml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """The alerts of this name that it holds as active (GET /api/v2/alerts)."""
        found = self.json("/api/v2/alerts", filter=f'alertname="{name}"')
        return [it for it in found if it["status"]["state"] == "active"]


AT_ONCE: Final = {
    "group_by": ["..."],
    "group_wait": "0s",
    "group_interval": SECOND,
    "repeat_interval": "1h",
}
"""What a route needs so that each alert is delivered by itself and without waiting."""


def webhook(url: str) -> dict[str, Any]:
    """A webhook_configs entry that is told when an alert resolves, too."""
    return {"url": f"{url}{NOTIFY_PATH}", "send_resolved": True}


@dataclass(slots=True)
class Receiver:
    """What Alertmanager delivers to; it answers `status`."""

    status: int = 200
    notified: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> Starlette:
        """The ASGI application."""

        async def notify(request: Request) -> Response:
            self.notified.append(await request.json())
            return Response(status_code=self.status)

        return Starlette(routes=[Route(NOTIFY_PATH, notify, methods=["POST"])])

    def alerts(self, name: str, *, status: str = "firing") -> list[dict[str, Any]]:
        """The delivered alerts of this name, `firing` or `resolved`."""
        return [
            alert
            for notification in self.notified
            for alert in notification["alerts"]
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Prometheus, its Alertmanager, and who is notified."""

    prometheus: Prometheus
    alertmanager: Alertmanager
    receiver: Receiver

    def until(self, true: Callable[[], Any], *, seconds: float = 90.0) -> None:
        """Wait until it is so; the failure quotes what Prometheus knows."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                alerts = self.prometheus.json("/api/v1/alerts")["data"]["alerts"]
                raise AssertionError(f"not so after {seconds} s; alerts: {alerts}")
            time.sleep(0.2)


@contextmanager
def chain(folder: Path) -> Iterator[Chain]:
    """All three, running."""
    receiver = Receiver()
    with sidecar.served(receiver.app()) as receiver_url:
        alertmanager = Alertmanager(folder / "alertmanager", receiver_url=receiver_url)
        try:
            prometheus = Prometheus(folder / "prometheus", alertmanagers=[alertmanager.url])
            try:
                yield Chain(prometheus=prometheus, alertmanager=alertmanager, receiver=receiver)
            finally:
                prometheus.close()
        finally:
            alertmanager.close()
