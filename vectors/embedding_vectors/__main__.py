"""The command line of the vectors' image.

embedding-vectors plan        print the SQL that the index needs
embedding-vectors apply       run it
embedding-vectors backfill    embed rows that lack a vector
embedding-vectors serve       answer searches
"""

import argparse
import sys

from embedding_vectors.backfill import command as backfill
from embedding_vectors.schema import command as schema
from embedding_vectors.search import command as search


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="embedding-vectors", description="EmbeddingIndex")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    schema.add_to(commands)
    backfill.add_to(commands)
    search.add_to(commands)
    options = parser.parse_args()
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
