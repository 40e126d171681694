"""Whatever flags say over time: what is wanted in the end runs in the end, and starts keep their distance."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, note
from hypothesis import strategies as st

from rheostat._config.config import load_config
from rheostat.testing import Model, Raw, Scenario, Simulation, World, configs, scenarios, schedules

ENOUGH = 100.0
"""Seconds after which cooldown and splay are over."""


def values(flags: dict[str, Raw]) -> dict[str, object]:
    return {flag: raw.value for flag, raw in flags.items()}


@given(scenarios(), st.data())
def test_a_schedule_ends_in_its_last_flags(scenario: Scenario, data: st.DataObject) -> None:
    """However quickly they have changed before; and no two starts are nearer than the cooldown."""
    schedule = data.draw(schedules(scenario))
    starts: list[float] = []
    model = Model(scenario, luck=0.5)
    with Simulation(scenario.yaml()) as it:
        note(it.config)
        for pause, flags in [*schedule, (ENOUGH, schedule[-1][1] if schedule else {})]:
            it.source.say(values(flags))
            for step in it.steps(pause):
                model.took(step, World(values(flags), None, killed=False))
                starts += [step.at for call in step.made if call.name == "start"]
        status = it.status()
        assert scenario.moves_by_itself or model.wanted.on == (it.backend.session is not None) == (
            status.state == "running"
        )
        assert scenario.moves_by_itself or model.wanted.settings == status.settings == (it.backend.session or {})
    assert all(later - earlier >= scenario.cooldown - 1e-6 for earlier, later in itertools.pairwise(starts))


@given(configs())
def test_each_generated_configuration_is_valid(config: str) -> None:
    """The strategies make what a user could write, and nothing that `check` refuses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(config)
        assert load_config(path, env={}, third_party=True).wire().rules.wanted
