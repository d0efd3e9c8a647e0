"""Commands that must not pass: seeded, without end, from noise to what a thief, a forger or an insider would send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from bot.domain.commands import ACTIONS, Arguments, CommandBody, SignedCommand
from bot.telemetry.commands.keys import Ed25519Key, HmacSecret, SigningKey
from bot.telemetry.commands.signing import encode, sign, sign_text, signed_bytes
from bot.telemetry.commands.verifying import ALL, Issuer

NOW_NS: Final = 1_790_000_000_000_000_000
S: Final = 1_000_000_000
VAULT: Final = "mm"
ALICE = Ed25519Key(hashlib.sha256(b"alice").digest())  # may all of everything
BOB = HmacSecret(hashlib.sha256(b"bob").digest())  # likewise, by a shared secret
CAROL = Ed25519Key(hashlib.sha256(b"carol").digest())  # may pause mm and nothing else
MALLORY = Ed25519Key(hashlib.sha256(b"mallory").digest())  # is not in the file
MALLORY_TOO = HmacSecret(hashlib.sha256(b"mallory").digest())
KEYS: Final[dict[str, SigningKey]] = {"alice": ALICE, "bob": BOB, "carol": CAROL}
ISSUERS: Final = {
    "alice": Issuer("alice", ALICE.verifier(), frozenset({ALL}), frozenset({ALL})),
    "bob": Issuer("bob", BOB.verifier(), frozenset({ALL}), frozenset({ALL})),
    "carol": Issuer("carol", CAROL.verifier(), frozenset({"pause"}), frozenset({VAULT})),
}
ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
LOOK_ALIKES: Final = str.maketrans("aceopxyihl", "асеорхуіһӏ")


class Forgery(NamedTuple):
    """What kind of trick a payload is, and the payload."""

    kind: str
    payload: bytes


def order(issuer: str = "alice", action: str = "pause", *, now_ns: int = NOW_NS, **changes: Any) -> CommandBody:
    """A command that is fine, with a few fields changed; its id is one of its own."""
    needed = {"set_target": Arguments("ETH", 1.0), "set_band": Arguments("ETH", None, -1.0, 1.0)}
    needed["flatten"] = Arguments(confirm=VAULT)
    needed["acknowledge"] = Arguments(alert_id="mm:halted")
    fields: dict[str, Any] = {
        "vault": VAULT,
        "issuer": issuer,
        "action": action,
        "reason": "because",
        "issued_ns": now_ns,
        "expires_ns": now_ns + 60 * S,
        "arguments": needed.get(action, Arguments()),
        **changes,
    }
    name = hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()[:32]
    return CommandBody(**{"command_id": name, **fields})


def payload_of(body: CommandBody, key: SigningKey | None = None) -> bytes:
    """What travels of a command, signed by its issuer's key or another."""
    return encode(sign(body, key or KEYS[body.issuer]))


def forgeries(seed: int, now_ns: int = NOW_NS) -> Iterator[Forgery]:
    """Payloads without end, each kind in turn; none of them is a command."""
    draw = random.Random(seed)
    while True:
        for kind, forge in FORGERS.items():
            number = draw.randrange(2**32)
            who = draw.choice(("alice", "bob"))
            body = order(who, draw.choice(ACTIONS), now_ns=now_ns, reason=f"forged {number}")
            payload = forge(draw, body)
            if kind not in BY_CHANCE or not says_the_same(payload, body):
                yield Forgery(kind, payload)


def says_the_same(payload: bytes, body: CommandBody) -> bool:
    """Tell whether a changed payload still is the command as its issuer signed it."""
    try:
        return msgspec.json.decode(payload, type=SignedCommand) == sign(body, KEYS[body.issuer])
    except (msgspec.MsgspecError, ValueError):
        return False


Forger = Callable[[random.Random, CommandBody], bytes]


def _noise(draw: random.Random, _body: CommandBody) -> bytes:
    return draw.randbytes(draw.randrange(600))


def _json_noise(draw: random.Random, _body: CommandBody) -> bytes:
    words = [b"{", b"}", b"[", b"]", b'"', b":", b",", b"command", b"signature", b"1e999", b"NaN", b"null", b"\\u0000"]
    return b"".join(draw.choice(words) for _ in range(draw.randrange(200)))


def _flipped(draw: random.Random, body: CommandBody) -> bytes:
    payload = bytearray(payload_of(body))
    for _ in range(draw.randrange(1, 4)):
        payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
    return bytes(payload)


def _cut(draw: random.Random, body: CommandBody) -> bytes:
    payload = payload_of(body)
    at = draw.randrange(len(payload))
    return draw.choice((payload[:at], payload[at:], payload + payload[at:], payload[:at] + payload))


def _moved(draw: random.Random, body: CommandBody) -> bytes:
    payload = payload_of(body)
    at, length = draw.randrange(len(payload)), draw.randrange(1, 20)
    return payload[:at] + draw.randbytes(length) + payload[at + draw.randrange(length) :]


def _edited(draw: random.Random, body: CommandBody) -> bytes:
    """Another order under the signature of the first."""
    changes: dict[str, Any] = {
        "action": draw.choice([one for one in ACTIONS if one != body.action]),
        "vault": "another",
        "issuer": "alice" if body.issuer == "bob" else "bob",
        "reason": body.reason + ".",
        "expires_ns": body.expires_ns + draw.randrange(1, 10**12),
        "issued_ns": body.issued_ns + draw.choice((-1, 1)),
        "command_id": f"{draw.randrange(2**64):016x}",
        "arguments": Arguments("ETH", draw.uniform(-1e6, 1e6)),
    }
    name = draw.choice(list(changes))
    changed = msgspec.structs.replace(body, **{name: changes[name]})
    signature = sign(body, KEYS[body.issuer]).signature
    return msgspec.json.encode(SignedCommand(msgspec.json.encode(changed).decode(), signature))


def _by_another(draw: random.Random, body: CommandBody) -> bytes:
    others: list[SigningKey] = [MALLORY, MALLORY_TOO, CAROL, BOB if body.issuer == "alice" else ALICE]
    return payload_of(body, draw.choice(others))


def _confused(draw: random.Random, body: CommandBody) -> bytes:
    """What is public of an Ed25519 key, as if it were the secret of an HMAC."""
    body = msgspec.structs.replace(body, issuer="alice")
    public = ALICE.verifier().text()
    secret = draw.choice((base64.b64decode(public), public.encode(), b"", b"alice", body.vault.encode()))
    text = msgspec.json.encode(body).decode()
    signature = hmac.digest(secret, signed_bytes(text), draw.choice((hashlib.sha256, hashlib.sha512)))
    return msgspec.json.encode(SignedCommand(text, base64.b64encode(signature).decode()))


def _unprefixed(draw: random.Random, body: CommandBody) -> bytes:
    """A signature over the text alone, or under another prefix: what the same key signed for something else."""
    text = msgspec.json.encode(body).decode()
    prefix = draw.choice((b"", b"evenkeel-command-0\n", b"evenkeel-command-1", b"evenkeel-command-1\r\n", b"\n"))
    signature = KEYS[body.issuer].sign(prefix + text.encode())
    return msgspec.json.encode(SignedCommand(text, base64.b64encode(signature).decode()))


def _malleated(draw: random.Random, body: CommandBody) -> bytes:
    """The same Ed25519 signature written another way, a part of it zeroed, or another way to write its base64."""
    text = msgspec.json.encode(msgspec.structs.replace(body, issuer="alice")).decode()
    signature = ALICE.sign(signed_bytes(text))
    doubled = signature[:32] + (int.from_bytes(signature[32:], "little") + ED25519_ORDER).to_bytes(32, "little")
    plain = base64.b64encode(signature).decode()
    shown = draw.choice(
        (
            base64.b64encode(doubled).decode(),
            base64.b64encode(signature[:32] + bytes(32)).decode(),
            base64.b64encode(bytes(32) + signature[32:]).decode(),
            base64.b64encode(bytes(64)).decode(),
            base64.b64encode(signature + b"\0").decode(),
            base64.b64encode(signature[:-1]).decode(),
            plain.rstrip("="),
            plain + "=",
            plain + "\n",
            " " + plain,
            plain[:-3] + "-_=",
            base64.b32encode(signature).decode(),
            signature.hex(),
            "",
        )
    )
    return msgspec.json.encode(SignedCommand(text, shown))


def _without(draw: random.Random, body: CommandBody) -> bytes:
    """An envelope that lacks something, has too much, or names an algorithm."""
    signed = msgspec.to_builtins(sign(body, KEYS[body.issuer]))
    more = {"algorithm": draw.choice(("none", "hmac-sha256", "HS256")), "alg": "none", "key": "", "public_key": "AAAA"}
    name = draw.choice(list(more))
    wrong: tuple[Any, ...] = (
        {"command": signed["command"]},
        {"signature": signed["signature"]},
        {**signed, name: more[name]},
        {**signed, "signature": None},
        {**signed, "signature": [signed["signature"]]},
        {**signed, "command": json.loads(signed["command"])},
        [signed["command"], signed["signature"]],
        [signed],
        signed["command"],
        json.loads(signed["command"]),
        None,
        {},
    )
    return json.dumps(draw.choice(wrong)).encode()


def _twice(draw: random.Random, body: CommandBody) -> bytes:
    """A key that is there twice, in the envelope or, signed, in the command."""
    signed = sign(body, KEYS[body.issuer])
    if draw.random() < 0.5:
        first, second = json.dumps(signed.command), json.dumps(signed.signature)
        again = draw.choice((f'"command":{first}', f'"signature":{second}'))
        return f'{{{again},"command":{first},"signature":{second}}}'.encode()
    name = draw.choice(("action", "vault", "expires_ns", "command_id", "arguments"))
    value = json.dumps(json.loads(signed.command)[name])
    return encode(sign_text(f'{{"{name}":{value},{signed.command[1:]}', KEYS[body.issuer]))


def _signed_nonsense(draw: random.Random, body: CommandBody) -> bytes:
    """What an issuer's own broken program might sign: wrong types, numbers, names; each by itself refuses it."""
    text = msgspec.json.encode(body).decode()
    fields = json.loads(text)
    name, value = draw.choice(NONSENSE)
    if value is LOOK_ALIKE:
        looks = str(fields[name]).translate(LOOK_ALIKES)
        value = looks if looks != fields[name] else fields[name] + "\u200b"
    if "." in name:
        fields["arguments"][name.partition(".")[2]] = value
    else:
        fields[name] = value
    wrong = json.dumps(fields, ensure_ascii=draw.random() < 0.5)
    for raw in ("NaN", "Infinity", "-Infinity"):
        wrong = wrong.replace(f'"{raw}"', raw)
    return encode(sign_text(wrong, KEYS[body.issuer]))


def _missing(draw: random.Random, body: CommandBody) -> bytes:
    fields = json.loads(msgspec.json.encode(body))
    del fields[draw.choice([name for name in fields if name != "arguments"])]
    return encode(sign_text(json.dumps(fields), KEYS[body.issuer]))


def _nested(draw: random.Random, body: CommandBody) -> bytes:
    depth = draw.randrange(2, 1_500)
    text = msgspec.json.encode(body).decode()
    inner = draw.choice(("[" * depth + "]" * depth, '{"a":' * (depth // 3) + "1" + "}" * (depth // 3), "[" * depth))
    where = draw.choice((f'{{"x":{inner},{text[1:]}', text.replace(f'"{body.reason}"', inner), inner))
    if draw.random() < 0.3:
        return where.encode()
    return msgspec.json.encode(sign_text(where, KEYS[body.issuer]))


def _large(draw: random.Random, body: CommandBody) -> bytes:
    """Larger than any command, though everything else about it is right."""
    padded = msgspec.json.encode(body).decode() + " " * draw.randrange(4_000, 60_000)
    return msgspec.json.encode(sign_text(padded, KEYS[body.issuer]))


def _untimely(draw: random.Random, body: CommandBody) -> bytes:
    issued = body.issued_ns
    times = draw.choice(
        (
            (issued - 61 * S, issued - 1 * S),  # expired
            (issued - 3_600 * S, issued - 3_590 * S),
            (issued - 10 * S, issued),  # to the nanosecond
            (issued + 11 * S, issued + 60 * S),  # not yet
            (issued + 10**15, issued + 10**15 + S),
            (issued, issued + 301 * S),  # lives too long
            (issued - 400 * S, issued + 1 * S),
            (issued, 2**62),
            (issued, issued),  # not at all
            (issued + 5 * S, issued + 4 * S),
            (1, 2**63 - 1),
            (-1, issued + S),
            (issued, 10**40),
            (0, 0),
        )
    )
    late = msgspec.structs.replace(body, issued_ns=times[0], expires_ns=times[1])
    return encode(sign_text(_as_json(late), KEYS[body.issuer]))


def _beyond_its_rights(draw: random.Random, body: CommandBody) -> bytes:
    """Carol's own signature under what Carol may not."""
    action = draw.choice([one for one in ACTIONS if one != "pause"])
    return payload_of(order("carol", action, now_ns=body.issued_ns, reason=body.reason))


def _of_another_vault(_draw: random.Random, body: CommandBody) -> bytes:
    return payload_of(msgspec.structs.replace(body, vault="mm-2"))


def _of_nobody(draw: random.Random, body: CommandBody) -> bytes:
    name = draw.choice(("mallory", "Alice", "ALICE", "alice.", "all", "root", "operator", "a", "alice@desk"))
    return payload_of(msgspec.structs.replace(body, issuer=name), draw.choice([MALLORY, MALLORY_TOO, ALICE]))


def _as_json(body: CommandBody) -> str:
    return json.dumps({name: getattr(body, name) for name in body.__struct_fields__[:-1]})


LOOK_ALIKE: Final = object()
NONSENSE: Final[tuple[tuple[str, Any], ...]] = (
    ("issued_ns", "1790000000000000000"),
    ("issued_ns", 1.79e18),
    ("issued_ns", True),
    ("issued_ns", None),
    ("expires_ns", "1790000060000000000"),
    ("expires_ns", 10**300),
    ("expires_ns", "Infinity"),
    ("expires_ns", [1]),
    ("arguments.target_base", "1"),
    ("arguments.target_base", "NaN"),
    ("arguments.target_base", "Infinity"),
    ("arguments.target_base", "-Infinity"),
    ("arguments.target_base", 1e300),
    ("arguments.target_base", 10**400),
    ("arguments.target_base", True),
    ("arguments.low_base", "-1"),
    ("arguments.low_base", 1e13),
    ("arguments.high_base", {}),
    ("arguments.underlying", "ΕΤΗ"),
    ("arguments.underlying", 1),
    ("arguments.underlying", "E" * 50),
    ("arguments.confirm", "\u202e"),
    ("arguments.confirm", "x" * 201),
    ("arguments.alert_id", "a\nb"),
    ("arguments.more", 1),
    ("arguments", []),
    ("arguments", None),
    ("arguments", "{}"),
    ("action", LOOK_ALIKE),
    ("action", "HALT"),
    ("action", "halt "),
    ("action", "haltﬀ"),
    ("action", "withdraw"),
    ("action", ""),
    ("action", ["halt"]),
    ("action", 0),
    ("vault", LOOK_ALIKE),
    ("vault", "MM"),
    ("vault", "mm/../mm"),
    ("vault", "mm\x00"),
    ("vault", ""),
    ("vault", "all"),
    ("vault", "#"),
    ("issuer", LOOK_ALIKE),
    ("issuer", "alice\u200b"),
    ("issuer", "alice\n"),
    ("issuer", ""),
    ("issuer", {"name": "alice"}),
    ("command_id", "short"),
    ("command_id", "i" * 65),
    ("command_id", "../../../../etc/passwd"),
    ("command_id", "аbсdеfgһ12345678"),
    ("command_id", 12345678),
    ("command_id", ""),
    ("reason", ""),
    ("reason", "   "),
    ("reason", "a\nb"),
    ("reason", "\x1b[2J"),
    ("reason", "\u202egnp"),
    ("reason", "r" * 501),
    ("reason", None),
    ("reason", 5),
    ("schema_version", 1),
    ("algorithm", "none"),
)
BY_CHANCE: Final = frozenset({"flipped bits", "cut", "moved"})  # these may leave a command as it was
FORGERS: Final[dict[str, Forger]] = {
    "noise": _noise,
    "noise of JSON": _json_noise,
    "flipped bits": _flipped,
    "cut": _cut,
    "moved": _moved,
    "edited": _edited,
    "by another key": _by_another,
    "the public key as a secret": _confused,
    "signed for something else": _unprefixed,
    "the signature written otherwise": _malleated,
    "another envelope": _without,
    "a key twice": _twice,
    "signed nonsense": _signed_nonsense,
    "more signed nonsense": _signed_nonsense,
    "lacks a field": _missing,
    "nested": _nested,
    "too large": _large,
    "untimely": _untimely,
    "beyond its rights": _beyond_its_rights,
    "another vault": _of_another_vault,
    "nobody's": _of_nobody,
}
