import base64
import json

from authz.keys import AccountSeed, OperatorSeed
from authz.tokens import encode_account_deletion


def test_request_to_delete_accounts_names_them_and_is_signed_by_the_operator() -> None:
    operator, account = OperatorSeed.generate(), AccountSeed.generate().public

    token = encode_account_deletion([account], operator, issued_at=1_700_000_000)

    signed, _, signature = token.rpartition(".")
    operator.public.verify(signed.encode(), base64.urlsafe_b64decode(signature + "=="))
    payload = json.loads(base64.urlsafe_b64decode(signed.split(".")[1] + "=="))
    assert payload["nats"] == {"accounts": [account.text], "type": "generic", "version": 2}
    assert payload["iss"] == payload["sub"] == operator.public.text
