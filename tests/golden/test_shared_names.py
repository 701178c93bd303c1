from tests.golden import held, shared_names


def test_environment_labels_headers_and_files_are_as_held():
    held.check(shared_names.texts())
