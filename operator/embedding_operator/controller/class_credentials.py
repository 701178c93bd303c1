"""The values of a ClusterEmbeddingProvider, read in the operator's namespace."""

from embedding_contract import names
from embedding_operator.controller import secret_values
from embedding_operator.controller.secret_values import SecretValues, Value
from embedding_operator.kube.kinds import ObjectKey
from embedding_operator.policy.provider_class import ProviderClass
from embedding_operator.policy.reference import (
    Literal,
    Reference,
    SecretReference,
    VaultReference,
)
from embedding_operator.vault import Address, Identity


class ClassCredentials:
    """Resolves the references of classes; `namespace` is the operator's."""

    def __init__(self, *, values: SecretValues, namespace: str) -> None:
        self._values = values
        self._namespace = namespace

    def follow(self, key: ObjectKey, found: ProviderClass) -> None:
        """Have Vault polled at the path that this class names, and at no other for it."""
        self._values.follow(key, self.addresses(found))

    def forget(self, key: ObjectKey) -> None:
        """A class has gone."""
        self._values.follow(key, ())

    def addresses(self, found: ProviderClass) -> list[Address]:
        """The paths of Vault that a class names."""
        return [
            Address(self._identity(found), it.mount, it.path)
            for it in (found.api_key, found.redis)
            if isinstance(it, VaultReference)
        ]

    def entry(self, found: ProviderClass, entry: str) -> Value:
        """The value of an entry of the owned Secrets of policies that use the class.

        An unusable value is none, with the problem.
        """
        is_redis = entry == names.secret_class_redis_url(found.name)
        return self._usable(found, entry, found.redis if is_redis else found.api_key)

    def all(self, found: ProviderClass) -> list[Value]:
        """All values that a class names."""
        entries = {
            names.secret_class_key(found.name): found.api_key,
            names.secret_class_redis_url(found.name): found.redis,
        }
        return [
            self._usable(found, entry, reference)
            for entry, reference in entries.items()
            if reference is not None
        ]

    def _usable(self, found: ProviderClass, entry: str, reference: Reference | None) -> Value:
        if not isinstance(reference, Literal | SecretReference | VaultReference):
            return Value()
        value = self._values.of(reference, identity=self._identity(found))
        if value.value is None:
            return value
        problem = secret_values.unusable(entry, value.value, reference)
        return value if problem is None else Value(problems=(problem,))

    def _identity(self, found: ProviderClass) -> Identity:
        return Identity(
            namespace=self._namespace,
            service_account=found.vault_service_account,
            role=found.vault_role,
        )
