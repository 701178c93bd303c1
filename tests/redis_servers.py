"""`make redis`: the tests of Redis on Debian's Redis and on Valkey, and their table in the docs.

The table says what passed, so that it is written only when no test failed.
"""

import collections
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.parts import compatibility, redis_programs

ROOT = Path(__file__).parents[1]
SUBJECTS = {
    "quota: counts, leases, days and months, stores that forget": ["contract/test_quota_store.py"],
    "limits per minute: windows": ["contract/test_rate_windows.py"],
    "cache: entries, generations, bounds": ["integration/test_redis_cache.py"],
    "connections: pipelining, refusals, budgets": [
        "integration/test_pipelined_connection.py",
        "integration/test_quota_connection.py",
    ],
    "sidecars with cache and quota in one server": ["integration/test_sidecar_redis.py"],
    "socket, password, TLS, Cluster of 6, Sentinels: cache, quota, killed and stopped nodes": [
        "integration/test_redis_forms.py"
    ],
    "Cluster of 6: the node that counts is killed while 4 sidecars draw": [
        "integration/test_redis_failover.py"
    ],
}
WITHOUT_TLS = "not (tls or authority or certificate)"
LIMITS = """
- After a failover of a Cluster or of Sentinels the new primary may lack the last writes, as
  replication is asynchronous. Sidecars that saw a higher count put it back with their next claim;
  calls beyond a limit are at most those that were granted in between. The condition `QuotaExact` is
  therefore False, reason `StoreMayForget`, on every server with replicas.
- While the node that counts is away, what was granted is spent, and then calls get 503
  `quota_store_unavailable`, unless `onStoreLoss` is Allow. Nodes of the tests wait 1 s for each
  other (`cluster-node-timeout`); Redis's default is 15 s.
- Valkey of PyPI is built without TLS, so TLS was tried on Redis alone.
- Users for the policies of a ClusterEmbeddingProvider are made in a single server only
  ([providers-cluster.md](providers-cluster.md)).
"""


def main() -> int:
    """Run and write; 1 if a test failed on one of them."""
    ran = {name: _run(name) for name in (redis_programs.REDIS, redis_programs.VALKEY)}
    failed = [name for name, counts in ran.items() if any(it["failed"] for it in counts.values())]
    for name, counts in ran.items():
        print(name, {subject: dict(it) for subject, it in counts.items()})
    if failed:
        print(f"{compatibility.PAGE.name} is left as it was: not all passed", file=sys.stderr)
        return 1
    old = compatibility.PAGE.read_text(encoding="utf-8")
    new = compatibility.with_section(old, compatibility.REDIS, _section(ran))
    compatibility.PAGE.write_text(new, encoding="utf-8")
    return 0


def _run(name: str) -> dict[str, collections.Counter[str]]:
    """By subject, the numbers of tests that passed and failed on this program."""
    return {subject: _counted(name, files) for subject, files in SUBJECTS.items()}


def _counted(name: str, files: list[str]) -> collections.Counter[str]:
    # The default form of reports takes no properties, which tests have that say something.
    asked = ["-m", "integration and not soak", "-o", "junit_family=xunit1"]
    if name == redis_programs.VALKEY:
        asked += ["-k", WITHOUT_TLS]
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", *asked, f"--junitxml={report}"),
                *(str(ROOT / "tests" / file) for file in files),
            ],
            cwd=ROOT,
            env={**os.environ, redis_programs.VARIABLE: name},
            check=False,
        )
        return compatibility.counted(report)


def _section(ran: dict[str, dict[str, collections.Counter[str]]]) -> str:
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    versions = [redis_programs.version(name) for name in ran]
    text = f"""Written by `make redis` on {when}, {platform.machine()}: tests that passed with each
    server; none failed."""
    rows = [
        f"| {subject} | {' | '.join(str(ran[name][subject]['passed']) for name in ran)} |"
        for subject in SUBJECTS
    ]
    heading = f"| | {' | '.join(versions)} |"
    lines = [" ".join(text.split()), "", heading, f"|---|{'---|' * len(ran)}", *rows]
    return "\n".join([*lines, LIMITS.rstrip()]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
