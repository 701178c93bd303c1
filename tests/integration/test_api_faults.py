"""Faults between operator and API server: the end is always what a fresh operator makes.

Each row of the table and each crash is met while users go one step, or take it back, in namespaces
that stand side by side (tests/parts/steps.py). The oracle is tests/parts/end_states.py.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import cluster as throwaway
from embedding_contract import names
from embedding_operator.kube import kinds
from tests.parts import api_faults, api_proxy, end_states, forked, reconciling, shipped_roles, steps
from tests.parts import vault as real
from tests.parts.api_faults import Fault, Harm, To
from tests.parts.installation import wait
from tests.parts.kubectl import Kubectl
from tests.parts.steps import World

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.integration,
    pytest.mark.needs_kubernetes("1.36", "MutatingAdmissionPolicy v1"),
]

PATIENCE_SECONDS = 180
LOOK_SECONDS = 0.3
"""A look is some twenty requests, by the process that the operator's requests pass through."""
QUIET_SECONDS = 3
"""A fresh operator that writes nothing during three polls of Vault has done its work."""
STEPS = {it.name: it for it in steps.STEPS}
NAMES = tuple(STEPS)
POLICY_STEP = "policy"
SHORT = 8
"""`make test` crashes at each eighth write, `make soak` at each."""
LAST_FAULT_AT = 4
"""Faults strike at the first to the fourth write."""


class Stage:
    """An operator behind a proxy, and a namespace for each step in which users go to and fro."""

    def __init__(self, asked: Kubectl, server: real.Vault, folder: Path) -> None:
        self._asked = asked
        self._server = server
        self.api = reconciling.connect(asked.kubeconfig)
        self.proxy = api_proxy.ApiProxy(asked.kubeconfig, folder / "proxy")
        self.operator = forked.ForkedOperator(folder, asked.kubeconfig, server)
        self.operator.leads_through(self.proxy)
        self.operator.environment["INJECTION_BY"] = "policy"
        self.proxy.kill = self.operator.kill
        self._fresh: list[tuple[World, end_states.EndState]] = []
        self.places = {
            it.name: self._place(f"step-{number}", it.before)
            for number, it in enumerate(steps.STEPS)
        }
        self._learn()

    def close(self) -> None:
        self.operator.stop()
        self.proxy.close()

    def restart(self) -> None:
        self.operator.stop()
        self.operator.start()

    def flip(self, *taken: str) -> None:
        """Have users take these steps, or take them back."""
        for name in taken:
            step, place = STEPS[name], self.places[name]
            place.put(step.before if place.world is step.after else step.after)

    def difference(self, name: str) -> str:
        """How a place differs from what a fresh operator makes of it; empty if it does not."""
        place = self.places[name]
        wanted = next(state for world, state in self._fresh if world is place.world)
        return end_states.difference(end_states.of(self.api, place.namespace), wanted)

    def settle(self, *taken: str) -> None:
        """Wait until these places are as a fresh operator makes them."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        for name in taken:
            while difference := self.difference(name):
                assert time.monotonic() < deadline, f"{name}\n{difference}\n{self.last_words()}"
                time.sleep(LOOK_SECONDS)

    def until(self, check: Callable[[], bool]) -> None:
        """Wait for what the operator has to do."""
        wait(
            check,
            "what the operator has to do",
            timeout_seconds=PATIENCE_SECONDS,
            last=self.last_words,
        )

    def strays(self) -> set[str]:
        """Namespaces in which the operator owns something though nobody asked for it there."""
        return end_states.homes(self.api) - self._named

    def last_words(self) -> str:
        self.operator.tell_threads()
        said = "\n".join(self.operator.log().splitlines()[-300:])
        return f"{self.operator.state()}\n{said}"

    def _learn(self) -> None:
        """Have a fresh operator make each world at once, and all places."""
        worlds: list[World] = []
        for world in itertools.chain(*((it.before, it.after) for it in steps.STEPS)):
            if not any(it is world for it in worlds):
                worlds.append(world)
        places = [self._place(f"fresh-{number}", it) for number, it in enumerate(worlds)]
        every = [*self.places.values(), *places]
        self._named = {it.namespace for it in every} | {reconciling.SYSTEM}
        self.operator.environment["VECTORS_NAMESPACES"] = ",".join(
            it.namespace for it in every if it.has_rights
        )
        self.operator.start()
        count = -1
        while count != len(self.proxy.written):
            count = len(self.proxy.written)
            time.sleep(QUIET_SECONDS)  # nothing else tells that no write is to come
        self._fresh = [
            (world, end_states.of(self.api, place.namespace))
            for world, place in zip(worlds, places, strict=True)
        ]
        for _, state in self._fresh[1:]:
            assert any('"reason": "Ready"' in it for it in state), "a policy is not Ready"
        self.settle(*NAMES)
        self.proxy.forget()

    def _place(self, name: str, world: World) -> steps.Place:
        made = steps.Place(self._asked, self._server, name)
        made.has_rights = any(it.has_index for it in steps.STEPS if world in (it.before, it.after))
        if made.has_rights:
            shipped_roles.grant_in(self._asked, name)
        made.put(world)
        return made


@pytest.fixture(scope="module")
def stage(api_server, tmp_path_factory) -> Iterator[Stage]:
    folder = throwaway.artifact("prometheus-operator-crds")
    for plural in ("prometheusrules", "podmonitors"):
        api_server.define(folder / f"monitoring.coreos.com_{plural}.yaml")
    with real.running(tmp_path_factory.mktemp("vault")) as server:
        made = Stage(api_server, server, tmp_path_factory.mktemp("operator"))
        try:
            yield made
        finally:
            made.close()


def crash(stage: Stage, name: str, *, at: int) -> bool:
    """Take a step while the operator ends right after its k-th write; False if it needs fewer.

    The answer to that write never arrives. To end before it is to end after the one before.
    """
    place, proxy = stage.places[name], stage.proxy
    before = proxy.struck[api_faults.CRASH.name]

    def is_struck() -> bool:
        return proxy.struck[api_faults.CRASH.name] > before

    proxy.forget()
    proxy.plan(place.namespace, api_faults.CRASH, at=at)
    stage.flip(name)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_struck() and (difference := stage.difference(name)):
        assert time.monotonic() < deadline, f"{difference}\n{stage.last_words()}"
        time.sleep(LOOK_SECONDS)
    proxy.spare()
    if is_struck():  # perhaps by the write that has made the end
        stage.operator.await_end()
        stage.operator.start()
        stage.settle(name)
    assert proxy.written_elsewhere(place.namespace) == []
    return is_struck()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [SHORT, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", NAMES)
def test_operator_that_ends_at_any_write_leaves_same_end(stage, name, every, say):
    crashes = Counter[str]()
    ways = {way: itertools.count(1, every) for way in ("there", "back")}
    while ways:
        for way in ("there", "back"):
            if way not in ways:
                stage.flip(name)
                stage.settle(name)
            elif crash(stage, name, at=next(ways[way])):
                crashes[way] += 1
            else:
                del ways[way]
    assert crashes.total()
    say(f"crash at one write in {every}, {name}: {crashes['there']} there, {crashes['back']} back")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", api_faults.TABLE, ids=lambda it: it.name)
def test_fault_of_api_server_leaves_same_end(stage, fault, say):
    before, began = stage.proxy.struck[fault.name], time.monotonic()
    if fault.to in {To.LISTS, To.WATCHES}:
        AROUND[fault.to](stage, fault)
    else:
        harm_requests(stage, fault)
    stage.settle(*NAMES)
    struck = stage.proxy.struck[fault.name] - before
    assert struck
    assert not stage.strays()
    say(f"{fault.name}: struck {struck} times, the same end after {time.monotonic() - began:.0f} s")


def harm_requests(stage: Stage, fault: Fault) -> None:
    """Each place has its fault at another write; few steps read more than once."""
    for number, name in enumerate(NAMES):
        at = 1 if fault.to is To.READS else 1 + number % LAST_FAULT_AT
        stage.proxy.plan(stage.places[name].namespace, fault, at=at)
    stage.flip(*NAMES)
    stage.settle(*NAMES)
    stage.proxy.forget()


def harm_lists(stage: Stage, fault: Fault) -> None:
    """Lists are those of a start; an old one is of the time before the step."""
    if fault.harm is Harm.OLD:
        stage.restart()
    stage.operator.stop()
    stage.flip(*NAMES)
    stage.proxy.harm(fault)
    stage.operator.start()
    stage.settle(*NAMES)
    stage.proxy.harm(None)


def harm_watches(stage: Stage, fault: Fault) -> None:
    """What was missed is gone for good: the watch ends then as where its version has expired."""
    stage.proxy.harm(fault)
    stage.flip(*NAMES)
    if fault.harm is Harm.MISSED:
        stage.until(lambda: stage.proxy.struck[fault.name] >= len(NAMES))
        stage.proxy.harm(None)
        stage.proxy.tell(410, "Expired")
    stage.settle(*NAMES)
    stage.proxy.harm(None)
    stage.proxy.cut()


AROUND = {To.LISTS: harm_lists, To.WATCHES: harm_watches}


@pytest.mark.timeout(600)
def test_status_says_while_injection_is_not_written_and_no_longer(stage):
    """Its selector is as before, so that no event of the object tells of the policy."""
    refused = next(it for it in api_faults.TABLE if it.name == "500 to writes")
    place = stage.places[POLICY_STEP]

    def injection() -> str:
        found = stage.api.get(kinds.POLICY, place.namespace, "search") or {}
        conditions = found.get("status", {}).get("conditions", ())
        return next((it["reason"] for it in conditions if it["type"] == "InjectionSupported"), "")

    if place.world is not STEPS[POLICY_STEP].after:
        stage.flip(POLICY_STEP)
        stage.settle(POLICY_STEP)
    stage.proxy.plan(place.namespace, refused, of=names.INJECTION_PLURAL)
    place.put(steps.RESIZED)
    stage.until(lambda: injection() == "InjectionNotWritten")
    stage.proxy.spare()
    stage.until(lambda: injection() == "Supported")
    place.put(STEPS[POLICY_STEP].after)
    stage.settle(POLICY_STEP)


def test_ends_are_equal_when_all_faults_are_over(stage):
    stage.restart()
    stage.settle(*NAMES)
    assert not stage.strays()
