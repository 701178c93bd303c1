"""Threads that are the first to decode a type end no process.

msgspec 0.22.0 describes a Struct at its first decode, and other threads take the description before
it is whole: the process ends by SIGSEGV (seen of operators that had just started). A Decoder that
is made with its module has it whole.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
MODULES = sorted(
    file for folder in ("operator", "sidecar", "vectors") for file in (ROOT / folder).rglob("*.py")
)
PROCESSES = 4
"""About half of them crashed without decoders."""
FIRST_DECODES = """
import sys, threading
import msgspec
from embedding_operator.informers import kept, namespace_objects, objects, pod_objects
from embedding_operator.informers import policy_objects, run_objects

sys.setswitchinterval(1e-6)
AT_ONCE = 16
raw = msgspec.Raw(
    b'{"metadata": {"name": "a", "namespace": "b", "labels": {"c": "d"}}, "spec": {}, "status": {}}'
)
started = threading.Barrier(AT_ONCE)

def decode():
    started.wait()
    for trim in (kept.version, pod_objects.pod, policy_objects.policy, run_objects.run,
                 namespace_objects.namespace, objects.nothing):
        trim(raw)

threads = [threading.Thread(target=decode) for _ in range(AT_ONCE)]
for it in threads:
    it.start()
for it in threads:
    it.join()
"""


def test_no_module_decodes_by_type_without_decoder():
    found = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for file in MODULES
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("json.decode")
        for given in call.keywords
        if given.arg == "type"
    ]
    assert found == []


def test_threads_that_decode_first_end_no_process():
    for _ in range(PROCESSES):
        ended = subprocess.run(
            [sys.executable, "-c", FIRST_DECODES], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
