"""Keys and calls that the tests of sealing share: made up, the same in every run."""

from authz.keys import AccountSeed, UserSeed
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyId, parse
from runtime.envelope.sealing import Binding

CID = "7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c"
OTHER_CID = "00000000-0000-4000-8000-000000000001"
NOW = 1_700_000_000.5
PHI = parse("phi@1")
PATIENT = parse("phi/patient/4711@2")

CONTROL = AccountSeed(bytes(range(32)))
ACME = AccountSeed(bytes(range(1, 33)))
NURSE = UserSeed(bytes(range(2, 34)))
MALLORY = UserSeed(bytes(range(3, 35)))


def data_key(key_id: KeyId = PHI, fill: int = 7) -> DataKey:
    return DataKey(key_id, bytes([fill]) * 32)


def binding(**changes: object) -> Binding:
    fields: dict[str, object] = {
        "key_id": PHI,
        "direction": "request",
        "name": "vitals.assess",
        "correlation_id": CID,
        "timestamp": NOW,
    }
    return Binding(**{**fields, **changes})  # type: ignore[arg-type]
