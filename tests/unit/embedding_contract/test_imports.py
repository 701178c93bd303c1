"""The contract is imported by both images, so it may need nothing."""

import sys

import grimp


def test_contract_needs_only_standard_library():
    graph = grimp.build_graph("embedding_contract", include_external_packages=True)
    inside = graph.find_descendants("embedding_contract") | {"embedding_contract"}
    imported = {
        name for module in inside for name in graph.find_modules_directly_imported_by(module)
    }
    assert imported - inside <= sys.stdlib_module_names
