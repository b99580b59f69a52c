from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from unit.authz.claimsets import ROLE_KEY, USER, user_claims

from authz.creds import MAX_CREDS_FILE, Creds, format_creds, parse_creds
from authz.errors import CredsFormatError
from authz.keys import AccountSeed
from authz.tokens import encode_user

CREDS = Creds(jwt=encode_user(user_claims(), ROLE_KEY), seed=USER)


def test_a_creds_file_is_read_back_as_itself() -> None:
    assert parse_creds(format_creds(CREDS)) == CREDS


def test_a_creds_file_with_windows_line_ends_is_read() -> None:
    assert parse_creds(format_creds(CREDS).replace("\n", "\r\n")) == CREDS


def test_the_nats_client_reads_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "user.creds"
    path.write_text(format_creds(CREDS))
    client = Client()
    client._user_credentials = str(path)
    client._setup_nkeys_jwt_connect()
    assert bytes(client._user_jwt_cb()).decode() == CREDS.jwt


def test_creds_never_print_their_secrets() -> None:
    for shown in (repr(CREDS), str(CREDS), f"{[CREDS]}"):
        assert USER.reveal() not in shown
        assert CREDS.jwt not in shown
        assert USER.public.text in shown


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda _: "", "0 `NATS USER JWT`"),
        (lambda text: text + text, "2 `NATS USER JWT`"),
        (lambda text: text[: text.index("BEGIN USER NKEY")], "0 `USER NKEY SEED`"),
        (lambda text: text.replace("END USER", "END OTHER"), "0 `USER NKEY SEED`"),
        (lambda text: text.replace(USER.reveal(), "SU" + "A" * 56), "user seed"),
        (lambda text: text.replace(USER.reveal(), AccountSeed.generate().reveal()), "another kind"),
        (lambda text: text + " " * MAX_CREDS_FILE, "longer than"),
    ],
)
def test_text_that_is_no_creds_file_is_refused_without_being_repeated(change: Any, fault: str) -> None:
    with pytest.raises(CredsFormatError, match=fault) as caught:
        parse_creds(change(format_creds(CREDS)))
    assert USER.reveal() not in str(caught.value)
