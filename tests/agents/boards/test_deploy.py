"""Inventories, releases and plans, without any machine."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from agents.boards.deploy.inventory import Inventory, load_inventory, make_inventory
from agents.boards.deploy.planning import (
    CERTIFY,
    CHANGE,
    IMPOSSIBLE,
    INSTALL,
    START,
    UNCHANGED,
    Wanted,
    back_to,
    plan_host,
)
from agents.boards.deploy.release import gather, make_release, render, secrets_of
from agents.boards.deploy.ssh import hide
from mesh.core.errors import ConfigError

DAY_S = 86400.0
PUBLIC = {
    "name": "oak",
    "mesh": "grove",
    "groups": ["a"],
    "publish": ["data.gpt/**"],
    "not_after": 400 * DAY_S,
}
WANTED = Wanted(
    name="oak",
    mesh="grove",
    groups=("a",),
    publish=("data.gpt/**",),
    release="two",
    sizes={"x": 1000, "y": 2000},
)
FACTS: dict[str, Any] = {
    "installed": "0.1.0",
    "free_bytes": 1e9,
    "current": "two",
    "blobs": ["x", "y"],
    "public": PUBLIC,
    "processes": {"agent": True},
}


def inventory(folder: Path, **host: object) -> Inventory:
    raw = {"mesh": {"name": "grove"}, "host": [{"name": "oak", "address": "10.0.0.5", **host}]}
    return make_inventory(raw, folder)


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        ({}, UNCHANGED),
        ({"current": ""}, INSTALL),
        ({"current": "one"}, CHANGE),
        ({"processes": {"agent": True, "feed": False}}, START),
        ({"public": None}, CERTIFY),
        ({"public": {**PUBLIC, "groups": ["b"]}}, CERTIFY),
        ({"public": {**PUBLIC, "not_after": 20 * DAY_S}}, CERTIFY),
        ({"installed": ""}, IMPOSSIBLE),
        ({"free_bytes": 1e6, "blobs": ["x"]}, IMPOSSIBLE),
    ],
)
def test_each_difference_has_its_step(facts: dict[str, Any], action: str) -> None:
    step = plan_host({**FACTS, **facts}, WANTED, wall=0.0)
    assert step.action == action
    assert step.why


def test_only_files_that_a_machine_lacks_are_sent() -> None:
    step = plan_host({**FACTS, "current": "one", "blobs": ["x"]}, WANTED, wall=0.0)
    assert step.fetched == ("y",)
    assert step.send_bytes == 2000


def test_one_goes_back_to_the_release_before() -> None:
    assert back_to(["one", "two", "three"], "three") == "two"
    assert back_to(["two", "one"], "one") == "two"
    assert back_to(["one"], "one") == ""
    assert back_to([], "") == ""


def test_defaults_hold_for_hosts_that_do_not_say(tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(
        '[mesh]\nname = "grove"\n[defaults]\nuser = "pi"\ngroups = ["a"]\n'
        '[[host]]\nname = "oak"\naddress = "10.0.0.5"\n'
        '[[host]]\nname = "elm"\naddress = "10.0.0.6"\nuser = "root"\nseed = true\n'
    )
    loaded = load_inventory(file)
    assert [host.user for host in loaded.hosts] == ["pi", "root"]
    assert [host.name for host in loaded.seeds()] == ["elm"]
    assert loaded.path("owner") == tmp_path / "owner"
    assert [host.name for host in loaded.chosen(["elm"])] == ["elm"]
    with pytest.raises(ConfigError, match="no host 'ash'"):
        loaded.chosen(["ash"])


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ({"adress": "x"}, "adress"),
        ({"address": "-oProxyCommand=x"}, "no address"),
        ({"user": "pi -x"}, "no user"),
        ({"root": "gossamer"}, "neither absolute"),
        ({"root": "/"}, "neither absolute"),
        ({"ports": [1, 1, 2]}, "differ"),
        ({"port": 0}, "1 to 65535"),
        ({"publish": ["nonsense"]}, "nonsense"),
        ({"files": {"a": "../b"}}, "no place"),
        ({"files": {"a": "agent.toml"}}, "no place"),
        ({"secrets": {"a/b": "c"}}, "plain file name"),
        ({"name": "Not A Name"}, "Not A Name"),
        ({"run": [{"name": "agent", "command": ["x"]}]}, "another name"),
        ({"runner": "docker"}, "docker"),
    ],
)
def test_what_is_wrong_with_a_host_is_named(
    tmp_path: Path, host: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        inventory(tmp_path, **host)


def test_two_hosts_do_not_share_a_name_or_a_folder(tmp_path: Path) -> None:
    one = {"name": "oak", "address": "10.0.0.5"}
    with pytest.raises(ConfigError, match="two hosts are called oak"):
        make_inventory({"mesh": {"name": "m"}, "host": [one, {**one, "root": "/x/y"}]}, tmp_path)
    with pytest.raises(ConfigError, match="shares the folder"):
        make_inventory({"mesh": {"name": "m"}, "host": [one, {**one, "name": "elm"}]}, tmp_path)


def test_the_configuration_is_the_users_and_its_node_is_written(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('machine = true\n[[model]]\npath = "builtin:arithmetic"\n')
    made = inventory(tmp_path, config="own.toml")
    seed = "tcp://10.0.0.9:7102#" + "A" * 43
    raw = tomllib.loads(render(made, made.hosts[0], [seed]))
    assert raw["machine"] is True
    assert raw["model"] == [{"path": "builtin:arithmetic"}]
    assert raw["node"]["advertise"] == "10.0.0.5"
    assert raw["node"]["seeds"] == [seed]


@pytest.mark.parametrize(
    ("own", "says"), [("[node]\nhost = 'x'\n", "node"), ("nonsense = 1\n", "nonsense"), ("[", "no")]
)
def test_a_configuration_that_an_agent_would_refuse_is_refused_here(
    tmp_path: Path, own: str, says: str
) -> None:
    (tmp_path / "own.toml").write_text(own)
    made = inventory(tmp_path, config="own.toml")
    with pytest.raises(ConfigError, match=says):
        render(made, made.hosts[0], [])


def test_a_release_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("1\n")
    (tmp_path / "data/__pycache__").mkdir()
    (tmp_path / "data/__pycache__/x.pyc").write_text("")
    (tmp_path / "key").write_text("sk-123456\n")
    made = inventory(tmp_path, files={"data": "feed"}, secrets={"cloud": "key"})
    host, key = made.hosts[0], bytes(32)

    def name(config: str = "x") -> str:
        return make_release(made, host, gather(made, host, key), config, host.python).name

    blobs = gather(made, host, key)
    assert [blob.path for blob in blobs] == ["feed/a.csv", "secrets/cloud"]
    first = name()
    assert name() == first
    assert name("y") != first
    (tmp_path / "data/a.csv").write_text("2\n")
    assert name() != first
    secret = blobs[-1]
    assert secret.mode == 0o600
    assert secret.name != secret.sha256, "a hash of a short secret could be guessed"
    assert hide("it said: sk-123456!", secrets_of(blobs)) == "it said: ***!"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    made = inventory(tmp_path, files={"absent": "x"})
    with pytest.raises(ConfigError, match="absent"):
        gather(made, made.hosts[0], bytes(32))
