"""The Secrets that operators make once, and the Helm chart that takes the same."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path

import pytest
import yaml

from a2a_events.bindings.identity.api_keys import parse
from k8s import make_secrets
from tests.cli.commands import run_here
from tests.k8s.manifests import K8S, kustomize

NATS = K8S / "components" / "nats"


def test_the_chart_gets_the_same_settings() -> None:
    values = yaml.safe_load((K8S / "components" / "nats-helm" / "values.yaml").read_text())
    config = values["config"]
    ours = (NATS / "nats.conf").read_text()
    assert config["cluster"]["replicas"] == len(make_secrets.SERVERS)
    assert config["jetstream"]["merge"] == {"domain": "main", "sync_interval": "always"}
    assert "sync_interval: always" in ours
    for part in ("cluster", "nats"):
        assert config[part]["tls"] == {"enabled": True, "secretName": "nats-tls"} | (
            {"merge": {"verify": True}} if part == "cluster" else {}
        )
    assert values["container"]["image"]["tag"] in (NATS / "statefulset.yaml").read_text()
    assert f'ping_interval: "{config["merge"]["ping_interval"]}"' in ours
    assert config["merge"]["zzz$include"] == "../nats-accounts/accounts.conf"
    assert {
        "path": "/volumeMounts/-",
        "op": "add",
        "value": {"name": "accounts", "mountPath": "/etc/nats-accounts", "readOnly": True},
    } in values["container"]["patch"]


@pytest.mark.parametrize(
    "wrong",
    [("--subjects", "x } y"), ("--subjects", "a.>"), ("--log", 'a"b'), ("--agent", "a.>"), ("--agent", 'a"b'),
     ("--regions", "a=b c,d=e"), ("--regions", "a"), ("--shards", "0"), ("--tenant", "acme", "--storage-gib", "0")],
)  # fmt: skip
def test_what_configuration_of_nats_server_cannot_hold_is_refused_and_nothing_is_made(
    wrong: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        make_secrets.main([str(tmp_path / "secrets"), *wrong])
    assert refused.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "secrets").exists()


def test_secrets_are_a_folder_for_kubectl_and_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets.main([str(folder), "--namespace", "elsewhere"])
    made = list(yaml.safe_load_all(kustomize(folder)))
    assert {secret["metadata"]["namespace"] for secret in made} == {"elsewhere"}
    assert {secret["kind"] for secret in made} == {"Secret"}
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*") if path.is_file()} == {0}, "others may read it"
    before = (folder / "nats-tls" / "tls.key").read_bytes()
    with pytest.raises(SystemExit, match="there already"):
        make_secrets.main([str(folder)])
    assert (folder / "nats-tls" / "tls.key").read_bytes() == before
    seeds = {path.read_bytes() for path in folder.glob("*/user.nk")}
    assert len(seeds) == len(make_secrets.ROLES)
    public = (folder / "nats-accounts" / "accounts.conf").read_bytes()
    assert not any(seed in public for seed in seeds)


def test_the_first_message_of_the_page_is_sent_with_a_key_that_gateways_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_secrets.main(["../secrets", "--no-certificates"])
    told = (K8S.parent / "docs" / "kubernetes.md").read_text().partition("## Production")[2].splitlines()
    made, sent = (
        next(number for number, line in enumerate(told) if line.startswith(f"a2a-events {command} "))
        for command in ("api-key", "send")
    )
    words, _, file = told[made].partition(" > ")
    applied = told.index("kubectl apply -k ../secrets")
    assert made < applied < sent
    assert f"--api-key @{file}" in told[sent]
    capsys.readouterr()
    assert run_here(*shlex.split(words)[1:]) == 0
    assert capsys.readouterr().out.startswith("a2ak_")

    secrets = {each["metadata"]["name"]: each["data"] for each in yaml.safe_load_all(kustomize(Path("../secrets")))}
    (key,) = parse(base64.b64decode(secrets["a2a-events-api-keys"]["keys.jsonl"])).values()
    assert (key.subject, key.scopes) == ("ci", ("read", "write"))
