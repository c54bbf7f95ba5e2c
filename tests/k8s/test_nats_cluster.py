"""The cluster of the component nats, run for real: its file, three servers, certificates and users of make_secrets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from a2a_events.errors import Forbidden, Unavailable
from a2a_events.log.jetstream import provision
from a2a_events.log.patience import patiently
from a2a_events.services import nats_server
from a2a_events.services.connect import connection, names, stream_settings
from a2a_events.settings import Settings, SettingsError
from a2a_events.testing.waiting import free_port
from k8s import make_secrets
from tests.k8s.manifests import K8S, OVERLAYS, loaded, render, settings_of

COMPONENT = K8S / "components" / "nats"
SERVERS = 3
START_SECONDS = 60
REFUSED_SECONDS = 2.0
"""How long to try with what is wrong, before that is believed."""


class Cluster(Struct):
    secrets: Path
    ports: list[int]
    monitors: list[int]

    def settings(self, role: str) -> Settings:
        return Settings(
            nats=",".join(f"tls://127.0.0.1:{port}" for port in self.ports),
            nats_credentials=str(self.secrets / f"nats-user-{role}" / "user.nk"),
            nats_ca=str(self.secrets / "nats-tls" / "ca.crt"),
            shards=1,
            replicas=SERVERS,
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    make_secrets.main([str(folder / "secrets"), "--server-name", "127.0.0.1"])
    first = free_port(3 * SERVERS)
    ports = list(range(first, first + 3 * SERVERS))
    made = Cluster(folder / "secrets", ports[:SERVERS], ports[SERVERS : 2 * SERVERS])
    with contextlib.ExitStack() as running:
        for ordinal in range(SERVERS):
            file = configuration(folder, f"nats-{ordinal}", COMPONENT / "leafnodes.conf", ports, ordinal)
            process = running.enter_context(
                subprocess.Popen(
                    [nats_server.binary(), "--config", str(file), "--log", str(folder / f"nats-{ordinal}.log")],
                    env={**os.environ, "POD_NAME": f"nats-{ordinal}", "REGION": "main"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            running.callback(process.kill)
        asyncio.run(provisioned(made.settings("provisioner")))
        yield made


@pytest.mark.parametrize("raw", [True, False])
async def test_services_sign_in_with_their_own_keys_over_tls(cluster: Cluster, raw: bool) -> None:
    for role in make_secrets.ROLES:
        settings = replace(cluster.settings(role), nats_raw=raw)
        async with connection(settings, role) as made:
            assert "error" not in await made.api("STREAM.INFO.A2A_LOG_main_0")


async def test_services_may_do_what_is_theirs_and_no_more(cluster: Cluster) -> None:
    for role in make_secrets.SERVICES:
        async with connection(cluster.settings(role), role) as made:
            with pytest.raises(Forbidden):
                await made.api("STREAM.DELETE.A2A_SNAP_main")


async def test_every_server_syncs_every_write_and_names_its_pod_and_domain(cluster: Cluster) -> None:
    for ordinal, port in enumerate(cluster.monitors):
        state = await monitored(port, "jsz?config=1")
        assert state["config"]["sync_always"] is True
        assert state["config"]["domain"] == "main"
        server = await monitored(port, "varz")
        assert server["server_name"] == f"nats-{ordinal}"  # KEDA finds leaders by it
        assert "connect_urls" not in server  # then KEDA takes the names of the routes
        assert server["cluster"]["urls"]


async def test_streams_have_a_copy_on_each_server(cluster: Cluster) -> None:
    async with connection(cluster.settings("gateway"), "gateway") as made:
        info = await made.api("STREAM.INFO.A2A_LOG_main_0")
    assert len(info["cluster"]["replicas"]) == SERVERS - 1


async def test_nobody_comes_in_without_a_key(cluster: Cluster) -> None:
    with pytest.raises(Unavailable):
        await tried(replace(cluster.settings("gateway"), nats_credentials=""))


async def test_nobody_comes_in_with_another_deployment_s_key(cluster: Cluster, tmp_path: Path) -> None:
    make_secrets.main([str(tmp_path / "other"), "--no-certificates"])
    stranger = str(tmp_path / "other" / "nats-user-gateway" / "user.nk")
    with pytest.raises(Unavailable):
        await tried(replace(cluster.settings("gateway"), nats_credentials=stranger))


async def test_a_server_that_the_authority_does_not_vouch_for_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    make_secrets.main([str(tmp_path / "other")])
    other = str(tmp_path / "other" / "nats-tls" / "ca.crt")
    with pytest.raises(Unavailable):
        await tried(replace(cluster.settings("gateway"), nats_ca=other))


@pytest.mark.parametrize("name", ["nats_credentials", "nats_ca"])
async def test_a_file_that_is_not_there_is_named(cluster: Cluster, name: str) -> None:
    with pytest.raises(SettingsError, match="/nowhere"):
        await tried(replace(cluster.settings("gateway"), **{name: "/nowhere"}))


async def test_a_file_of_certificates_that_holds_none_is_named(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"ca\.crt"):
        await tried(replace(cluster.settings("gateway"), nats_ca=str(tmp_path / "ca.crt")))


@pytest.mark.parametrize("target", [target for target in OVERLAYS if target.startswith("two-region")])
def test_nats_server_takes_the_files_of_regions(target: str, tmp_path: Path) -> None:
    make_secrets.main([str(tmp_path / "secrets")])
    overlay = K8S / "overlays" / target / "leafnodes" / "leafnodes.conf"
    file = configuration(tmp_path, "nats-0", overlay, [4222, 8222, 6222], 0, servers=1)
    region = loaded(settings_of(render(target))).log
    checked = subprocess.run(
        [nats_server.binary(), "-t", "--config", str(file)],
        env={**os.environ, "POD_NAME": "nats-0", "REGION": region},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


async def provisioned(settings: Settings) -> None:
    async with connection(settings, "provisioner", patience_seconds=START_SECONDS) as made:
        work = partial(provision, made, names(settings), stream_settings(settings))
        await patiently(work, "a quorum", patience_seconds=START_SECONDS)


def configuration(
    folder: Path, name: str, leafnodes: Path, ports: list[int], ordinal: int, *, servers: int = SERVERS
) -> Path:
    """nats.conf as a pod has it, but for paths and ports."""
    here = folder / name
    for sub in ("accounts", "region", "leaf"):
        (here / sub).mkdir(parents=True)
    secrets = folder / "secrets"
    shutil.copy(secrets / "nats-accounts" / "accounts.conf", here / "accounts")
    shutil.copy(secrets / "nats-user-leaf" / "remote.conf", here / "leaf")
    places = {"/etc/nats-tls": str(secrets / "nats-tls"), "/data": str(here / "data"), "/var/run/nats": str(here)}
    places |= {
        "port: 4222": f"host: 127.0.0.1, port: {ports[ordinal]}",
        "http_port: 8222": f"http: 127.0.0.1:{ports[servers + ordinal]}",
    }
    places |= {"port: 6222": f"host: 127.0.0.1, port: {ports[2 * servers + ordinal]}"}
    places |= {
        f"nats-{other}.nats-headless:6222": f"127.0.0.1:{ports[2 * servers + other]}" for other in range(servers)
    }
    text = (COMPONENT / "nats.conf").read_text()
    for old, new in places.items():
        assert old in text, old
        text = text.replace(old, new)
    (here / "nats.conf").write_text(text)
    (here / "region" / "leafnodes.conf").write_text(
        leafnodes.read_text().replace("/etc/nats-tls", str(secrets / "nats-tls"))
    )
    return here / "nats.conf"


async def monitored(port: int, path: str) -> Any:
    def get() -> object:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return json.load(answer)

    return await asyncio.to_thread(get)


async def tried(settings: Settings) -> None:
    async with connection(settings, "test", patience_seconds=REFUSED_SECONDS):
        pass
