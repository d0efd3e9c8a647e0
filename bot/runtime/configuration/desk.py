"""The desk file: the windows of one daemon process, as people write them. Brokers, issuers, alerts, pages; never a key.

It is apart from the vault files: nothing here changes what is traded, so no journal depends on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bot.runtime.configuration.vault import Section


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class TlsSection(Section):
    """Certificates of an encrypted connection, as files in PEM."""

    ca_file: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Who may vouch for the other side; default: the system's",
    )
    cert_file: str | None = Field(default=None, min_length=1, max_length=200, description="Our own certificate")
    key_file: str | None = Field(
        default=None, min_length=1, max_length=200, description="The key of our certificate, mode 0600"
    )


class MqttSection(Section):
    """The broker that state and events are published at, and commands come from."""

    host: str = Field(default="localhost", min_length=1, max_length=255, description="The broker's host")
    port: int = Field(default=1883, ge=1, le=65535, description="Its port; 8883 is usual with tls")
    prefix: str = Field(default="evenkeel", pattern=r"^[A-Za-z0-9_-]{1,40}$", description="First part of every topic")
    client_id: str = Field(default="evenkeel", pattern=r"^[A-Za-z0-9_-]{1,40}$", description="Our name at the broker")
    username: str | None = Field(default=None, min_length=1, max_length=100, description="Who we are to the broker")
    password_env: str | None = Field(
        default=None, pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable with the password"
    )
    tls: TlsSection | None = Field(default=None, description="Encrypt, and with a certificate be known by it")
    state_every_s: float = Field(default=0.25, ge=0.1, le=60, description="Time between two states of a vault")


class IssuerSection(Section):
    """Somebody who may send commands: by which key they are known, and what they may order of which vaults."""

    public_key: str | None = Field(
        default=None, min_length=40, max_length=60, description="Ed25519 public key in base64; or secret_env"
    )
    secret_env: str | None = Field(
        default=None, pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable with an HMAC-SHA256 secret"
    )
    may: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        min_length=1, description="Actions they may order; all of them: [all]"
    )
    vaults: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        default=("all",), min_length=1, description="Vaults they may order about; default: [all]"
    )


class HttpSection(Section):
    """Where metrics and health are served."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="Address to listen at")
    port: int = Field(default=9464, ge=1, le=65535, description="Port to listen at")


class DestinationSection(Section):
    """Somewhere alerts are sent: an address as apprise has it, which holds a secret and so comes from elsewhere."""

    url_env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable with the apprise URL")
    at_least: Literal["info", "warning", "critical"] = Field(default="warning", description="Least severity sent there")


class AlertsSection(Section):
    """Who is told when, and what happens when nobody answers."""

    destinations: Annotated[tuple[DestinationSection, ...], BeforeValidator(_as_tuple)] = Field(
        default=(), description="Where alerts are sent"
    )
    repeat_s: float = Field(
        default=1800.0, ge=10, le=86_400, description="An alert that lasts is told again after this"
    )
    settle_s: float = Field(default=30.0, ge=0, le=3600, description="How long it must be over to be called over")
    escalate_after_s: float = Field(
        default=300.0, ge=1, le=86_400, description="A critical alert nobody acknowledged makes the vault reduce-only"
    )


class UserSection(Section):
    """Somebody who may log in at the dashboard."""

    password_hash: str = Field(min_length=20, max_length=300, description="As `evenkeel password` prints it")
    role: Literal["viewer", "operator"] = Field(default="viewer", description="operator may also give orders")


class DashboardSection(Section):
    """The dashboard: where it listens, who may log in, as whom it sends commands."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="Address to listen at")
    port: int = Field(default=8600, ge=1, le=65535, description="Port to listen at")
    users: dict[str, UserSection] = Field(default_factory=dict, description="By name")
    issuer: str | None = Field(
        default=None, min_length=1, max_length=60, description="The issuer it signs operators' commands as"
    )
    signing_key_env: str | None = Field(
        default=None, pattern=r"^[A-Z][A-Z0-9_]*$", description="Environment variable with that issuer's key"
    )
    names: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        default=(), description="Host names it is reached by, beside its address; others are not answered"
    )
    idle_s: float = Field(default=3600.0, ge=60, le=86_400, description="A session nobody touched ends after this")
    absolute_s: float = Field(default=43_200.0, ge=300, le=604_800, description="Every session ends after this")
    tls: TlsSection | None = Field(default=None, description="Serve over TLS")
    trusted_proxy: str | None = Field(
        default=None, min_length=1, max_length=100, description="Address of a proxy whose X-Forwarded-Proto is believed"
    )


class Desk(Section):
    """A desk file; every section may be left out, and its window stays shut."""

    mqtt: MqttSection | None = Field(default=None, description="Publish at a broker, and take commands there")
    issuers: dict[str, IssuerSection] = Field(default_factory=dict, description="Who may send commands, by name")
    http: HttpSection | None = Field(default=None, description="Serve metrics and health")
    alerts: AlertsSection | None = Field(default=None, description="Tell people what matters")
    dashboard: DashboardSection | None = Field(default=None, description="Pages for people")


def cursor_path(state_dir: str, vault: str) -> Path:
    """Return where it is noted up to which event a vault's journal was published."""
    return Path(state_dir) / f"{vault}.published"
