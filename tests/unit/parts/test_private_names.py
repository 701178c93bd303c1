"""The private names that the scan finds, and those that it leaves."""

import pytest

from tests.parts.private_names import Scan, Unpromised, Use

PARSER = "from redis._parsers import _AsyncHiredisParser as Base\n"
PROTOCOL = "from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol\n"
OURS = "from ours.base import Base\n"
UVICORN = {
    "uvicorn": Unpromised(
        modules=("uvicorn.protocols.",),
        objects=("uvicorn.protocols.http.httptools_impl.RequestResponseCycle",),
        documented=frozenset({"send"}),
    )
}


@pytest.fixture
def uses(tmp_path):
    """The names that a module with this text uses, as (name, owner)."""
    (tmp_path / "ours").mkdir()
    base = "class Base:\n    def __init__(self): self._set = 1\n    def _made(self): ...\n"
    (tmp_path / "ours" / "base.py").write_text(f"_top = 1\n{base}", encoding="utf-8")

    def scan(text):
        file = tmp_path / "ours" / "it.py"
        file.write_text(text, encoding="utf-8")
        found = Scan(tmp_path, {"ours": "ours"}, UVICORN).uses()
        assert {it.file for it in found} <= {"ours/it.py"}
        return {(it.name, it.owner) for it in found}

    return scan


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from redis._parsers import Encoder\n", {("_parsers", "redis")}),
        ("import redis._parsers\n", {("_parsers", "redis")}),
        ("import redis\nredis._parsers\n", {("_parsers", "redis")}),
        ("from uvicorn.config import _x\n", {("_x", "uvicorn")}),
        ("import os\nos._environ_x\n", {("_environ_x", "python")}),
        (PROTOCOL, {("HttpToolsProtocol", "uvicorn")}),
        (
            "from uvicorn.protocols.http import httptools_impl as it\nit.STATUS_LINE\n",
            {("httptools_impl", "uvicorn"), ("STATUS_LINE", "uvicorn")},
        ),
        ("from ours.base import _top\n", {("_top", "ours.base")}),
        ("from ours import base\nbase._top\n", {("_top", "ours.base")}),
        ("def use(it): it._writer\n", {("_writer", None)}),
        ("def use(it): getattr(it, '_writer')\n", {("_writer", None)}),
        ("import uvicorn\ndef use(it): it.response_complete\n", {("response_complete", "uvicorn")}),
    ],
)
def test_private_name_is_found(uses, text, found):
    assert uses(text) == found


@pytest.mark.parametrize(
    ("head", "base", "body", "found"),
    [
        (PARSER, "Base", "def read(self): self._reader", {("_reader", "redis")}),
        (PARSER, "Base", "_reader: object", {("_reader", "redis")}),
        (PARSER, "Base", "def read(self): super()._reader", {("_reader", "redis")}),
        (PARSER, "Base", "def read(self): self._own = self._own", set()),
        (PROTOCOL, "HttpToolsProtocol", "def f(self): self.pipeline", {("pipeline", "uvicorn")}),
        (
            PROTOCOL,
            "HttpToolsProtocol",
            "def _start_asgi_task(self): ...",
            {("_start_asgi_task", "uvicorn")},
        ),
        (PROTOCOL, "HttpToolsProtocol", "def connection_made(self, transport): ...", set()),
        (OURS, "Base", "def f(self): self._set", {("_set", "ours.base")}),
        (OURS, "Base", "def _made(self): ...", {("_made", "ours.base")}),
        (OURS, "Base", "def f(self): self._own = self._own", set()),
    ],
)
def test_private_name_of_base_class_is_found(uses, head, base, body, found):
    imported = uses(head)
    assert uses(f"{head}class It({base}):\n    {body}\n") == imported | found


def test_base_class_that_is_argument_is_known_by_its_annotation(uses):
    text = (
        "from redis.asyncio.connection import SSLConnection\n"
        "def made(kind: type[SSLConnection]):\n"
        "    class Made(kind):\n"
        "        def _connection_arguments(self): ...\n"
    )
    assert uses(text) == {("_connection_arguments", "redis")}


def test_base_of_our_base_counts_too(uses, tmp_path):
    (tmp_path / "ours" / "base.py").write_text(f"{PARSER}class Near(Base): ...\n", encoding="utf-8")
    (tmp_path / "ours" / "it.py").write_text(
        "from ours.base import Near\nclass It(Near):\n    def f(self): self._reader\n",
        encoding="utf-8",
    )
    found = Scan(tmp_path, {"ours": "ours"}, {}).uses()
    assert Use("ours/it.py", "_reader", "redis") in found


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.environ\nos._exit\n",
        "def use(it): it._replace()\n",
        "class It:\n    _own = 1\n    def f(self, other): other._own\n",
        "_own = 1\ndef use(it): it.__class__\n",
        "import uvicorn\ndef use(it): it.send\n",
        "from __future__ import annotations\n",
    ],
)
def test_promised_or_own_name_is_left(uses, text):
    assert uses(text) == set()
