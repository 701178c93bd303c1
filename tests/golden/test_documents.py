from tests.golden import documents, held


def test_documents_and_owned_objects_are_as_held():
    held.check(documents.texts())
