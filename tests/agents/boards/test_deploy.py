"""Inventories, releases and plans, without any machine."""

from __future__ import annotations

import hashlib
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.boards.deploy.inventory import Inventory, load_inventory, make_inventory
from agents.boards.deploy.planning import (
    CERTIFY,
    CHANGE,
    IMPOSSIBLE,
    INSTALL,
    START,
    UNCHANGED,
    House,
    Wanted,
    back_to,
    plan_host,
)
from agents.boards.deploy.release import gather, make_release, render, secrets_of
from agents.boards.deploy.ssh import hide
from agents.boards.deploy.wheels import read_wheelhouse
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


HOUSE = House(
    name="house2",
    version="0.9.1",
    wheels={"x": 5000, "w": 7000},
    unpacked_bytes=60_000,
    machines=frozenset({"aarch64"}),
    pythons=frozenset({"311"}),
)
BARE = {
    **FACTS,
    "installed": "",
    "runs": "",
    "current": "",
    "environments": [],
    "machine": "aarch64",
    "base": "3.11.2",
}


def test_a_wheelhouse_installs_gossamer_where_there_is_none() -> None:
    wanted = msgspec.structs.replace(WANTED, house=HOUSE, brings_gossamer=True)
    step = plan_host(BARE, wanted, wall=0.0)
    assert (step.action, step.installs) == (INSTALL, "0.9.1")
    assert step.fetched == ("w",)
    assert step.send_bytes == 7000
    done = {**BARE, "environments": ["house2"], "current": "two", "installed": "0.9.1"}
    step = plan_host(done, wanted, wall=0.0)
    assert (step.action, step.installs, step.fetched) == (UNCHANGED, "", ())


def test_another_version_is_told_with_the_one_that_it_replaces() -> None:
    wanted = msgspec.structs.replace(WANTED, house=HOUSE, brings_gossamer=True)
    facts = {**BARE, "current": "one", "runs": "0.9.0", "environments": ["house1"]}
    step = plan_host(facts, wanted, wall=0.0)
    assert step.action == CHANGE
    assert step.why.endswith("; Gossamer 0.9.1 is installed first in place of 0.9.0")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"machine": "x86_64"}, "for aarch64, the machine is x86_64"),
        ({"base": "3.12.1"}, "for Python 3.11, the machine has 3.12.1"),
        ({"base": ""}, "the machine has none"),
        ({"free_bytes": 50_050_000}, "do not fit"),
    ],
)
def test_a_wheelhouse_that_does_not_fit_the_machine_is_told_in_the_plan(
    facts: dict[str, Any], says: str
) -> None:
    wanted = msgspec.structs.replace(WANTED, house=HOUSE, brings_gossamer=True)
    step = plan_host({**BARE, **facts}, wanted, wall=0.0)
    assert step.action == IMPOSSIBLE
    assert says in step.why


def test_a_plan_names_the_files_that_differ() -> None:
    wanted = msgspec.structs.replace(WANTED, paths={"x": "agent.toml", "y": "feed/a.csv"})
    step = plan_host({**FACTS, "current": "one", "blobs": ["y"]}, wanted, wall=0.0)
    assert step.why == "agent.toml differs"


def test_a_folder_that_is_no_wheelhouse_or_is_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no wheelhouse"):
        read_wheelhouse(tmp_path, "python3")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("pip-25.0-py3-none-any.whl", "msgpack-1-cp311-cp311-manylinux_2_28_aarch64.whl"):
        (wheels / name).write_bytes(name.encode())
    with zipfile.ZipFile(wheels / "gossamer_mesh-0.9.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "gossamer_mesh-0.9.1.dist-info/METADATA",
            "Requires-Dist: msgpack>=1\nRequires-Dist: llama-cpp-python>=0.3\n"
            "Requires-Dist: torch; extra == 'training'\n",
        )
    with pytest.raises(ConfigError, match="SHA256SUMS"):
        read_wheelhouse(tmp_path, "python3")
    sums = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  wheels/{p.name}" for p in wheels.iterdir()
    ]
    (tmp_path / "SHA256SUMS").write_text("\n".join(sums))
    house = read_wheelhouse(tmp_path, "python3")
    assert house.version == "0.9.1"
    assert house.requirements == ("msgpack>=1",), "without a wheel of llama.cpp it is left out"
    assert not house.models
    assert (house.machines, house.pythons) == ({"aarch64"}, {"311"})
    assert read_wheelhouse(tmp_path, "python3.11").name != house.name
    (wheels / "pip-25.0-py3-none-any.whl").write_bytes(b"another")
    with pytest.raises(ConfigError, match="not as its"):
        read_wheelhouse(tmp_path, "python3")


def test_a_wheel_and_a_wheelhouse_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name one of the two"):
        inventory(tmp_path, wheel="a.whl", wheelhouse="b")


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
