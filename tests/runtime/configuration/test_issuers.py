"""Issuers of a desk file: each with a key of its own, and everything that is wrong said at once."""

from __future__ import annotations

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.issuers import load_issuers
from tests.telemetry.commands.forging import ALICE, BOB, CAROL

ALICES = ALICE.verifier().text()


def test_issuers_have_their_keys_and_their_rights() -> None:
    desk = Desk.model_validate(
        {
            "issuers": {
                "alice": {"public_key": ALICES, "may": ["all"]},
                "bob@desk": {"secret_env": "BOBS", "may": ["halt", "pause"], "vaults": ["mm"]},
            }
        }
    )
    found = load_issuers(desk, {"BOBS": BOB.text() + "\n"})
    assert found["alice"].key.has_signed(b"x", ALICE.sign(b"x"))
    assert found["bob@desk"].key.has_signed(b"x", BOB.sign(b"x"))
    assert (found["alice"].may, found["alice"].vaults) == ({"all"}, {"all"})
    assert (found["bob@desk"].may, found["bob@desk"].vaults) == ({"halt", "pause"}, {"mm"})


def test_all_that_is_wrong_is_said_and_no_key_is() -> None:
    desk = Desk.model_validate(
        {
            "issuers": {
                "аlice": {"public_key": ALICES, "may": ["all"]},
                "bob": {"secret_env": "BOBS", "may": ["all"]},
                "carol": {"secret_env": "CAROLS", "may": ["all"]},
                "dave": {"public_key": ALICES, "may": ["all"]},
                "erin": {"public_key": ALICES, "may": ["halt"]},
                "fred": {"public_key": "A" * 43 + "=", "may": ["halt"]},
                "gil": {"secret_env": "GILS", "may": ["halt"]},
            }
        }
    )
    with pytest.raises(ConfigError) as caught:
        load_issuers(desk, {"CAROLS": CAROL.text(), "GILS": "hunter2-hunter2-hunter2"})
    said = caught.value.problems
    assert said[0] == (
        "issuers: expected a name of plain characters, found 'аlice'; hint: letters, digits and . _ @ - of ASCII, at "
        "most 60"
    )
    assert said[1].startswith("expected the secret of issuers.bob in the environment variable BOBS, found none; hint:")
    assert said[2].startswith("CAROLS: expected hmac-sha256: and base64, found a private key; hint: ")
    assert said[3] == "issuers.erin: expected a key of its own, found dave's; hint: `evenkeel keys new` makes one"
    assert said[4].startswith("issuers.fred: expected an Ed25519 public key, found one that anybody can sign for")
    assert said[5].startswith("GILS: expected ed25519-private: or hmac-sha256: and base64, found something else")
    assert len(said) == 6
    assert "hunter2" not in str(caught.value)
    assert CAROL.text() not in str(caught.value)
