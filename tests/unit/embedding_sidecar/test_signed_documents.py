"""A document that the operator did not sign is not obeyed, and gets no value of a class."""

import pytest

from embedding_contract import document, names, proof
from embedding_sidecar import errors
from embedding_sidecar.policy import current_policy, policy_file, runtime
from embedding_sidecar.telemetry import metrics
from tests.unit.embedding_sidecar.test_policy_file import Volume

KEY = "of-the-operator"
OTHER = "another-key"
ENTRY = names.secret_class_key("openai")
URL = names.secret_class_redis_url("openai")


class Mounted:
    """What kubelet mounts, and the sidecar's reading of it."""

    def __init__(self, directory):
        self._documents = Volume(directory / "policy")
        self._secrets = Volume(directory / "secrets")
        self.follower = policy_file.Follower(
            path=self._documents.directory / names.DOCUMENT_KEY,
            secrets=self._secrets.directory,
        )
        self.poll = self.follower.poll

    def document(self, base_url, *, key=None, signature=None):
        text = of(base_url)
        signature = proof.sign_document(key, text) if key else signature
        signed = {} if signature is None else {names.DOCUMENT_SIGNATURE: signature.encode()}
        self._documents.write(**{names.DOCUMENT_KEY: text, **signed})

    def secrets(self, *, key=None, **values):
        made = {name.replace("_", "-"): it.encode() for name, it in values.items()}
        signing = {} if key is None else {names.SECRET_DOCUMENT_KEY: key.encode()}
        self._secrets.write(**{"api-token": b"t"}, **made, **signing)

    def reads(self):
        """The address in force and the class's key there, after everything was read."""
        loaded = None
        for _ in range(3):
            loaded = self.poll() or loaded
        return loaded and (loaded.document.providers[0].base_url, loaded.secrets.get(ENTRY))


def of(base_url):
    provider = document.Provider(
        name="a", kind="OpenAI", model="m", base_url=base_url, api_key_file=ENTRY
    )
    policy = document.PolicyDocument(namespace="shop", name="main", providers=(provider,))
    return document.dump(policy).encode()


@pytest.fixture
def mounted(tmp_path):
    return Mounted(tmp_path)


def test_signed_document_gets_values_of_class(mounted):
    mounted.document("https://right", key=KEY)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    assert mounted.reads() == ("https://right", "sk-1")
    assert mounted.follower.rejected is None


@pytest.mark.parametrize("signature", [None, "", "0" * 64, "é", "x" * 5000])
def test_document_without_right_signature_is_refused_at_start(mounted, signature):
    mounted.document("https://wrong", signature=signature)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    assert mounted.reads() is None
    assert "signature: the operator did not sign it" in mounted.follower.rejected
    factory = runtime.RuntimeFactory(metrics=metrics.Metrics())
    current = current_policy.CurrentPolicy(source=mounted.follower, factory=factory)
    with pytest.raises(errors.Unavailable, match="did not sign it"):
        current.runtime()


def test_changed_document_leaves_last_good_one_in_force(mounted):
    mounted.document("https://right", key=KEY)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    mounted.poll()
    mounted.document("https://wrong", signature=proof.sign_document(KEY, of("https://right")))
    assert mounted.reads() is None
    assert "signature" in mounted.follower.rejected
    mounted.secrets(key=KEY, class_key_openai="sk-2")
    assert mounted.reads() == ("https://right", "sk-2")
    mounted.document("https://right", key=KEY)
    assert mounted.reads() == ("https://right", "sk-2")
    assert mounted.follower.rejected is None


def test_signature_of_another_policys_key_is_none(mounted):
    mounted.document("https://wrong", key=OTHER)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    assert mounted.reads() is None


def test_document_from_before_class_gets_nothing_of_it(mounted):
    mounted.document("https://wrong")
    mounted.secrets()
    assert mounted.reads() == ("https://wrong", None)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    assert mounted.reads() == ("https://wrong", None)
    assert "signature" in mounted.follower.rejected
    mounted.document("https://right", key=KEY)
    assert mounted.reads() == ("https://right", "sk-1")


def test_values_of_class_need_document_key(mounted):
    mounted.document("https://right", key=KEY)
    mounted.secrets(class_key_openai="sk-1", **{URL.replace("-", "_"): "redis://r"})
    loaded = mounted.poll()
    assert not set(loaded.secrets) & {ENTRY, URL}


def test_older_document_is_worth_nothing_under_new_key(mounted):
    mounted.document("https://old", key=KEY)
    mounted.secrets(key=OTHER, class_key_openai="sk-2")
    assert mounted.reads() is None


def test_new_values_wait_for_document_of_their_key(mounted):
    mounted.document("https://old", key=KEY)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    assert mounted.reads() == ("https://old", "sk-1")
    mounted.secrets(key=OTHER, class_key_openai="sk-2")
    assert mounted.reads() == ("https://old", "sk-1")
    mounted.document("https://new", key=OTHER)
    assert mounted.reads() == ("https://new", "sk-2")


def test_withdrawn_value_is_gone_for_document_of_earlier_key(mounted):
    mounted.document("https://old", key=KEY)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    mounted.poll()
    mounted.secrets(key=OTHER)
    assert mounted.reads() == ("https://old", None)
    mounted.secrets(key=OTHER, class_key_openai="sk-2")
    assert mounted.reads() == ("https://old", None)


def test_unsigned_document_takes_nothing_over_from_signed_one(mounted):
    mounted.document("https://right", key=KEY)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    mounted.poll()
    mounted.secrets(class_key_openai="sk-1")
    mounted.document("https://wrong")
    assert mounted.reads() == ("https://wrong", None)


def test_key_of_documents_is_no_value_for_document(mounted):
    mounted.document("https://right", key=KEY)
    mounted.secrets(key=KEY)
    assert names.SECRET_DOCUMENT_KEY not in mounted.poll().secrets


def test_fingerprint_tells_operator_of_values_that_wait(mounted):
    mounted.document("https://old", key=KEY)
    mounted.secrets(key=KEY, class_key_openai="sk-1")
    first = mounted.poll().secrets_fingerprint
    mounted.secrets(key=OTHER, class_key_openai="sk-2")
    waiting = mounted.poll().secrets_fingerprint
    mounted.document("https://new", key=OTHER)
    assert len({first, waiting, mounted.poll().secrets_fingerprint}) == 3
