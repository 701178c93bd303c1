"""Facts of a database, read before anything is changed in it: values, without IO."""

from dataclasses import dataclass
from typing import Final

TEXT_CATEGORY: Final = "S"
"""pg_type.typcategory of text, varchar, char, citext and domains over them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. `type` is as format_type renders it, quoted where that is needed."""

    name: str
    type: str
    category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """An index of a table. `columns` has None in place of an expression.

    `operator_classes` are names such as vector_cosine_ops, in the order of the columns.
    """

    name: str
    method: str
    columns: tuple[str | None, ...]
    operator_classes: tuple[str, ...]
    is_valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """A table and what the connected role may do with it.

    `rights` are of SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER, of the whole table.
    `updates` are the columns that may be updated. `is_built` is True while another session holds
    the lock that building an index CONCURRENTLY takes.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    indexes: tuple[IndexFacts, ...] = ()
    triggers: tuple[str, ...] = ()
    owner: str = ""
    is_owned: bool = True
    rights: frozenset[str] = frozenset()
    updates: frozenset[str] = frozenset()
    is_built: bool = False

    def column(self, name: str) -> Column | None:
        """The column of this name."""
        return next((it for it in self.columns if it.name == name), None)

    def has_vector_index(self, column: str) -> bool:
        """True if a valid index for cosine distance is on the column."""
        return any(
            it.is_valid
            and it.method == "hnsw"
            and it.columns == (column,)
            and it.operator_classes[0] in ("vector_cosine_ops", "halfvec_cosine_ops")
            for it in self.indexes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """The extension vector: `schema` holds its types, `is_usable` where the role may name them."""

    version: str
    schema: str
    is_usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """A row of embedding_target. `column` or `table` says where its vectors are."""

    id: str
    index_uid: str
    index_name: str
    model: str
    dimensions: int
    space: str
    phase: str
    column: str | None
    table: str | None
    request_dimensions: bool = False
    rows: int = 0
    done: int = 0
    parked: int = 0

    @property
    def waiting(self) -> int:
        """Rows that still wait for a vector; a parked one does not, until its text changes."""
        return max(self.rows - self.done - self.parked, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts that a plan needs. `tables` are the indexed one and others of its schema."""

    role: str
    extension: Extension | None
    creates_in_schema: bool = True
    uses_schema: bool = True
    tables: tuple[TableFacts, ...] = ()
    targets: tuple[TargetRow, ...] = ()
    functions: frozenset[str] = frozenset()
    text_configurations: frozenset[str] = frozenset()

    def table(self, name: str) -> TableFacts | None:
        """The table of this name."""
        return next((it for it in self.tables if it.name == name), None)
