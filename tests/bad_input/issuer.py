"""An issuer of tokens on this machine: its configuration and keys over HTTP, and any token that a test wants."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "https://agents.test"
EVERYTHING = "a2a:read a2a:write a2a:admin"


class Issuer:
    """Where tokens come from.

    Args:
        port: that it listens on.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.fetches = 0
        """How often its keys were asked for."""
        self.away = False
        """Whether it answers nothing but 503."""
        self.turned_away = 0
        """How often it did."""
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }

    def token(self, subject: str = "alice", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token; members that are None are left out."""
        now = int(time.time())
        made = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": "acme",
            "scope": EVERYTHING,
            "iat": now,
            "exp": now + 300,
            **claims,
        }
        head = {"typ": "at+jwt", "kid": "rsa", "alg": "RS256", **(header or {})}
        return jwt.encode(
            {name: value for name, value in made.items() if value is not None},
            self.keys.get(head["kid"], self.keys["rsa"]),
            algorithm=head["alg"],
            headers={name: value for name, value in head.items() if name != "alg"},
        )

    def public_pem(self, kid: str = "rsa") -> bytes:
        """A public key as everybody can have it."""
        key: bytes = (
            self.keys[kid]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        return key

    def jwks(self) -> dict[str, Any]:
        """Its keys."""
        made: dict[str, tuple[str, Any]] = {
            "rsa": ("RS256", RSAAlgorithm),
            "ec": ("ES256", ECAlgorithm),
            "ed": ("EdDSA", OKPAlgorithm),
        }
        keys = []
        for kid, key in self.keys.items():
            alg, algorithm = made[kid.split("-")[0]]
            keys.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": alg, "use": "sig"})
        return {"keys": keys}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            status, body = "200 OK", b""
            if self.away:
                self.turned_away += 1
                status = "503 Service Unavailable"
            elif path == "/.well-known/openid-configuration":
                body = json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
            elif path == "/keys":
                self.fetches += 1
                body = json.dumps(self.jwks()).encode()
            else:
                status = "404 Not Found"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def issuing(port: int) -> AsyncIterator[Issuer]:
    """An issuer, while this is entered."""
    issuer = Issuer(port)
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", port)
    async with server:
        yield issuer


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token as an attacker writes it."""
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    )
