"""Hot upgrades of the real program with a control plane: its listeners keep serving, or nothing is upgraded."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from generations import Generations
from process_fixtures import Start
from pymosn_process import PATIENCE, Upstream, eventually, get
from xds_peers import Mesh, Traffic, answers, port_of

pytestmark = pytest.mark.once

#: Seconds for the start of another process with the libraries of xDS.
LONG = 2 * PATIENCE


class Upgraded:
    """A mesh whose pymosn is upgraded. `port`: of a listener of xDS with a host."""

    def __init__(self, start: Start, folder: Path, upstream: Upstream, cache: str) -> None:
        self.mesh = Mesh(
            start,
            top={"xds_cache": cache, "servers": [{"default_log_path": "stdout", "graceful_timeout": "1s", "processor": 1}]},
        )
        self.generations = Generations(self.mesh.proxy, folder / "conf" / "mosn.json", self.mesh.admin)
        self.port = self.mesh.serving("l", port_of(upstream))

    def is_alone(self) -> bool:
        """Whether the generation before has ended."""
        return len(self.generations.view()["generations"]) == 1

    def starting(self) -> int:
        """The process that starts."""
        [pid] = [each["pid"] for each in self.generations.view()["generations"] if each["state"] != "serving"]
        return int(pid)

    def end(self) -> None:
        self.generations.end()
        self.mesh.control.stop()


@pytest.fixture
def upgraded(request: pytest.FixtureRequest, start: Start, tmp_path: Path, upstream: Upstream) -> Iterator[Upgraded]:
    """With the cache that the test names, `off` for none."""
    made = Upgraded(start, tmp_path, upstream, request.param)
    yield made
    made.end()


@pytest.mark.parametrize("upgraded", ["off"], indirect=True)
def test_listeners_of_xds_serve_over_an_upgrade_which_waits_for_the_control_plane(upgraded: Upgraded) -> None:
    """Without a control plane the old process serves, also if the new one ends; then the new one gets everything again."""
    mesh, generations = upgraded.mesh, upgraded.generations
    with Traffic(upgraded.port, 1, per_connection=3) as traffic:
        mesh.control.stop()
        generations.proxy.send(signal.SIGUSR2)
        generations.proxy.wait_for("waiting for the control plane: its listeners", LONG)
        assert traffic.goes_on()
        os.kill(upgraded.starting(), signal.SIGKILL)
        generations.proxy.wait_for("upgrade from SIGUSR2: failed; this process serves as before")
        assert upgraded.is_alone()
        assert traffic.goes_on()
        mesh.control.start()
        streams = len(mesh.control.streams)
        done = generations.upgrade()
        assert (done.returncode, done.stderr) == (0, "")
        assert len(mesh.control.streams) > streams
        assert traffic.goes_on()
        assert eventually(upgraded.is_alone)
        assert traffic.goes_on()
    assert set(mesh.held("lds")) == {"l"}
    mesh.put_and_see(answers("l", "changed later"))
    assert eventually(lambda: get(upgraded.port, "/")[1] == "changed later")


@pytest.mark.show
@pytest.mark.parametrize("upgraded", ["off"], indirect=True)
def test_without_its_control_plane_nothing_is_upgraded(upgraded: Upgraded) -> None:
    """It would lose the listeners, so it is refused after half a minute."""
    upgraded.mesh.control.stop()
    with Traffic(upgraded.port, 1, per_connection=3) as traffic:
        proxy = upgraded.generations.proxy
        proxy.send(signal.SIGUSR2)
        proxy.wait_for("the control plane has not sent within 30 s: its listeners; without: l$", LONG)
        proxy.wait_for("upgrade from SIGUSR2: failed; this process serves as before")
        assert upgraded.is_alone()
        assert traffic.goes_on()


@pytest.mark.parametrize("upgraded", ["cache"], indirect=True)
def test_with_its_cache_it_can_be_upgraded_without_its_control_plane(upgraded: Upgraded, tmp_path: Path) -> None:
    assert eventually(lambda: (tmp_path / "cache" / "resources.msgpack").exists())
    upgraded.mesh.control.stop()
    with Traffic(upgraded.port, 1, per_connection=3) as traffic:
        assert upgraded.generations.upgrade().returncode == 0
        assert eventually(upgraded.is_alone)
        assert traffic.goes_on()
