"""Defects of the machine, the loop and the rules: one each, in words and as an edit."""

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """In a module of the core `old`, which is there once, is replaced by `new`; `name` says what is wrong then."""

    name: str
    module: str
    old: str
    new: str


MACHINE: Final = [
    Mutant(
        "a restart cannot end in running",
        "machine",
        "(State.STOPPED, State.RESTARTING), State.RUNNING,",
        "(State.STOPPED,), State.RUNNING,",
    ),
    Mutant(
        "a restart whose start failed counts as running",
        "machine",
        "Move(Trigger.FAILED, (State.RESTARTING,), State.STOPPED,",
        "Move(Trigger.FAILED, (State.RESTARTING,), State.RUNNING,",
    ),
    Mutant(
        "a session that died counts as running",
        "machine",
        "Move(Trigger.DIED, (State.RUNNING,), State.STOPPED,",
        "Move(Trigger.DIED, (State.RUNNING,), State.RUNNING,",
    ),
    Mutant(
        "a forked child counts as running",
        "machine",
        "Move(Trigger.FORKED, tuple(State), State.STOPPED,",
        "Move(Trigger.FORKED, tuple(State), State.RUNNING,",
    ),
    Mutant(
        "a retune passes through stopped",
        "machine",
        'State.RESTARTING,\n        "settings changed',
        'State.STOPPED,\n        "settings changed',
    ),
    Mutant(
        "what has been stopped counts as restarting",
        "machine",
        "State.STOPPED,\n        \"the backend's stop returned",
        "State.RESTARTING,\n        \"the backend's stop returned",
    ),
    Mutant(
        "a restart cannot be given up",
        "machine",
        "(State.RUNNING, State.RESTARTING),",
        "(State.RUNNING,),",
    ),
]

HISTORY: Final = [
    Mutant("transitions are not numbered", "history", "self.seq += 1", "self.seq += 0"),
    Mutant("the numbers of transitions have gaps", "history", "self.seq += 1", "self.seq += 2"),
    Mutant("what an observer raises escapes", "history", "except BaseException as error", "except ValueError as error"),
    Mutant(
        "a transition is logged twice",
        "history",
        "self._journal.transition(made)",
        "self._journal.transition(made)\n        self._journal.transition(made)",
    ),
    Mutant("a transition is not logged", "history", "self._journal.transition(made)", "pass"),
    Mutant("observers are told nothing", "history", "observer(made)", "pass"),
    Mutant(
        "the child of a fork has not left its parent's state",
        "history",
        "ProfilerMachine(inherited or State.STOPPED)",
        "ProfilerMachine()",
    ),
    Mutant("a transition says that it began where it ended", "history", "from_state=before", "from_state=after"),
]

DESIRED: Final = [
    Mutant("a change of settings is not noticed", "desired", "return one == other and", "return True or"),
    Mutant("settings are never as they should be", "desired", "return one == other and", "return False and"),
]

VALUES: Final = [
    Mutant(
        "True is taken for a whole number",
        "values",
        "if type(raw) is int:\n        return raw\n    if type(raw) is float and math.isfinite(raw) and",
        "if isinstance(raw, int):\n        return raw\n    if type(raw) is float and math.isfinite(raw) and",
    ),
    Mutant(
        "97.5 is cut to a whole number",
        "values",
        "math.isfinite(raw) and raw.is_integer()",
        "math.isfinite(raw)",
    ),
    Mutant(
        "infinity and NaN are taken for numbers",
        "values",
        "if type(raw) is float and math.isfinite(raw):",
        "if type(raw) is float:",
    ),
    Mutant(
        "a number is taken for true or false",
        "values",
        "if type(raw) is bool:\n        return raw",
        "if type(raw) in (bool, int):\n        return bool(raw)",
    ),
    Mutant("yes is taken for true", "values", '"false": False}', '"false": False, "yes": True}'),
    Mutant(
        "a number with blanks around it is refused",
        "values",
        "is_whole(raw.strip(), _MOST_DIGITS)",
        "is_whole(raw, _MOST_DIGITS)",
    ),
    Mutant(
        "thousands of digits are taken for a number",
        "values",
        "_MOST_DIGITS: Final = 100",
        "_MOST_DIGITS: Final = 1000",
    ),
    Mutant("a lone surrogate is given", "values", "raw.encode()\n    except", "raw.strip()\n    except"),
    Mutant("a text with a NUL is given", "values", ' or "\\0" in raw', ""),
    Mutant("a text of a million characters is given", "values", 'len(raw) > LONGEST_TEXT or "\\0"', '"\\0"'),
    Mutant(
        "a whole number that no float can hold raises",
        "values",
        "return raw if abs(raw) > 2**1000 else float(raw)",
        "return float(raw)",
    ),
    Mutant(
        "a huge number is shown in full",
        "text",
        'return raw if abs(raw) < 2**63 else f"a whole number of {raw.bit_length()} bits"',
        "return raw",
    ),
    Mutant(
        "a long text is shown in full", "text", "cut = text if len(text) <= longest else", "cut = text if True else"
    ),
]

RULES: Final = [
    Mutant("the lower bound is forgotten", "rules", "if self.min is not None and value < self.min", "if False"),
    Mutant("the upper bound is forgotten", "rules", "if self.max is not None and value > self.max", "if False"),
    Mutant("choices are forgotten", "rules", "if self.choices is None or _among(value, self.choices)", "if True"),
    Mutant(
        "the backend's hard bounds are dropped",
        "rules",
        "for limits in setting.limits:\n        value, moved_by",
        "for limits in setting.limits[:1]:\n        value, moved_by",
    ),
    Mutant(
        "the backend's choices are dropped",
        "rules",
        "for limits in setting.limits:\n        refusal",
        "for limits in setting.limits[:1]:\n        refusal",
    ),
    Mutant(
        "a number that was moved need be none of the choices",
        "rules",
        "if rule is not None:\n        refusal",
        "if False:\n        refusal",
    ),
    Mutant("otherwise off is taken for otherwise default", "rules", 'if setting.otherwise == "off"', "if False"),
    Mutant(
        "otherwise hold is taken for otherwise default",
        "rules",
        'holds = setting.otherwise == "hold" and setting.name in held',
        "holds = False",
    ),
    Mutant(
        "what cannot be used always holds the last good value",
        "rules",
        'holds = setting.otherwise == "hold" and setting.name in held',
        "holds = setting.name in held",
    ),
    Mutant(
        "a default is remembered as a good value",
        "rules",
        "if each.good and each.value is not None",
        "if each.value is not None",
    ),
    Mutant("good values are forgotten at the next look", "rules", "{**held, **good}", "good"),
    Mutant("the source's own error about a flag is ignored", "rules", "if flag in reading.errors", "if False"),
    Mutant(
        "a bad value of one setting turns profiling off",
        "rules",
        "not any(each.off for each in outcomes.values())",
        "not any(each.adjustment for each in outcomes.values())",
    ),
    Mutant(
        "a setting that says otherwise off does not turn profiling off",
        "rules",
        " and not any(each.off for each in outcomes.values())",
        "",
    ),
    Mutant("the switch is ignored", "rules", "on = enabled.value is True and", "on = True and"),
    Mutant(
        "a flag that is gone keeps its last value",
        "rules",
        "if flag not in reading.values:\n        return Outcome(setting.default)",
        "if flag not in reading.values:\n        return Outcome(held.get(setting.name, setting.default))",
    ),
    Mutant(
        "a whole number that no float can hold is given",
        "rules",
        'return _otherwise(setting, held, raw, "too large a number")',
        "as_float = 0.0",
    ),
    Mutant(
        "choices are compared without their types",
        "rules",
        "type(value) is type(choice) and value == choice",
        "value == choice",
    ),
]

LEASE: Final = [
    Mutant("the lease never ends", "knowledge", "now < self.stale_since + lease)", "True)"),
    Mutant(
        "the lease lasts a moment longer",
        "knowledge",
        "now < self.stale_since + lease",
        "now <= self.stale_since + lease",
    ),
    Mutant("nothing is held for the lease", "knowledge", " or now < self.stale_since + lease)", ")"),
    Mutant(
        "values that are stale anew prolong the lease",
        "knowledge",
        "(float(reading.stale_since), now, before.stale_since)",
        "(float(reading.stale_since), now)",
    ),
    Mutant(
        "a date in the future prolongs the lease",
        "knowledge",
        "(float(reading.stale_since), now, before.stale_since)",
        "(float(reading.stale_since), before.stale_since)",
    ),
    Mutant(
        "stale values replace the last fresh ones",
        "knowledge",
        "return before._replace(",
        "return before._replace(\n            reading=reading,",
    ),
    Mutant(
        "each failure starts the lease anew",
        "knowledge",
        "since = now if known.stale_since is None else known.stale_since",
        "since = now",
    ),
    Mutant(
        "a failure forgets the last good values",
        "knowledge",
        "return known._replace(",
        "return known._replace(\n        reading=None,",
    ),
    Mutant(
        "a verdict is taken for final",
        "precedence",
        "until=min(each.until(case) for each in PRECEDENCE)",
        "until=math.inf",
    ),
    Mutant("the kill switch is ignored", "precedence", "    KILL_SWITCH,\n", ""),
    Mutant(
        "the kill switch is said to have won, and does not",
        "precedence",
        "desired=flags.desired if decider is None else OFF",
        "desired=flags.desired",
    ),
    Mutant(
        "layers that are silent keep nothing off",
        "precedence",
        "    BEGINNING,\n    LEASE,\n    SILENCE,\n",
        "",
    ),
    Mutant(
        "a source that never answered leaves the switch to its default",
        "precedence",
        "    SILENCE,\n    SESSION_END,",
        "    SESSION_END,",
    ),
    Mutant(
        "a silent layer whose last word was off is passed over",
        "brakes/source",
        "if rules.enabled.flag is not None and resolve_setting(rules.enabled, layer.reading, held).value is not True",
        "if False",
    ),
    Mutant(
        "a layer that has only just begun keeps nothing off",
        "precedence",
        "    BEGINNING,\n    LEASE,",
        "    LEASE,",
    ),
    Mutant("a session never ends", "precedence", "    SESSION_END,\n", ""),
    Mutant(
        "the end of a session is noticed by chance",
        "brakes/session",
        "return moment if moment > case.facts.now else math.inf",
        "return math.inf",
    ),
    Mutant(
        "each decision begins a session",
        "brakes/session",
        "since = memory.enabled_since if goes_on else case.facts.now",
        "since = case.facts.now",
    ),
    Mutant(
        "another session id begins no session",
        "brakes/session",
        "memory.enabled_since is not None and memory.session_id == session_id",
        "memory.enabled_since is not None",
    ),
    Mutant("a rollout takes everybody", "precedence", "    ROLLED_OUT,\n", ""),
    Mutant("a rollout takes the others", "brakes/share", "if own < percent:", "if own >= percent:"),
    Mutant("a duty cycle is always on", "precedence", "    TURN,\n", ""),
    Mutant(
        "the end of a turn is noticed by chance",
        "brakes/share",
        "return case.facts.now + ((on if into < on else every) - into)",
        "return math.inf",
    ),
    Mutant(
        "all instances have their turn at once",
        "brakes/share",
        "(case.facts.wall - phase) % every",
        "case.facts.wall % every",
    ),
    Mutant("the budget is no brake", "precedence", "    PROCESSOR,\n", ""),
    Mutant("the budget of memory is no brake", "precedence", "    SIZE,\n", ""),
    Mutant(
        "a session that was too large begins again", "brakes/budget", "case.memory.is_too_large or (", "(False) or ("
    ),
    Mutant("a host's processes all profile", "precedence", "    PERMITTED,\n", ""),
    Mutant(
        "a permit is asked for though something stronger says off", "precedence", " and is_permitted else 0", " else 0"
    ),
    Mutant("crashes keep nothing off", "precedence", "    CRASHED,\n", ""),
    Mutant(
        "a crash with any settings counts",
        "brakes/crashes",
        "sum(same_settings(each, settings) for each in case.facts.crashes)",
        "len(case.facts.crashes)",
    ),
    Mutant(
        "a pause ends at once",
        "budget",
        "budget.most * (_FULL if before.is_spent else _RESERVE)",
        "budget.most * _RESERVE",
    ),
    Mutant("what was used is forgotten", "budget", " - (used - before.used)", ""),
    Mutant("the bucket has no bottom", "budget", "level = min(budget.most, ", "level = max(budget.most, "),
    Mutant(
        "the rate is never lowered",
        "budget",
        "if is_spent and not before.is_spent and rate and rate == before.rate and cost > 0:",
        "if False:",
    ),
    Mutant("the rate is never raised", "budget", "before.cap * _RAISE if cost", "before.cap if cost"),
    Mutant("a lower rate keeps no least", "brakes/budget", "given = max(least, ", "given = max(0, "),
    Mutant("all instances have one place", "brakes/share", "{salt}\\0{instance}", "{salt}"),
    Mutant(
        "a policy's flag that says off does not turn profiling off",
        "rules",
        "on = on and not any(each.off for each in tuned.values())",
        "on = on and True",
    ),
    Mutant(
        "the weakest layer wins",
        "knowledge",
        "in (reading.values.keys() | reading.errors.keys()) - known:",
        "in reading.values.keys() | reading.errors.keys():",
    ),
]

POLICY: Final = [
    Mutant(
        "the backoff does not grow",
        "policy",
        "self.initial * 2.0 ** min(failures - 1, _LONGEST_DOUBLING)",
        "self.initial",
    ),
    Mutant("the backoff has no cap", "policy", "return min(doubled, self.max) *", "return doubled *"),
    Mutant("the backoff has no jitter", "policy", " * (1 - random() / 2)", ""),
    Mutant("there is no backoff", "start_gate", '"backoff": self._retry_at', '"backoff": float("-inf")'),
    Mutant("there is no cooldown", "start_gate", "self._last_try + self.policy.cooldown", "self._last_try"),
    Mutant("a start is not remembered for the cooldown", "start_gate", "self._last_try = now", "pass"),
    Mutant(
        "there is no splay",
        "start_gate",
        "now + splay_of(self.instance, self.policy.splay) if splayed else now",
        "now",
    ),
    Mutant("a turn waits for the splay, too", "start_gate", " if splayed else now", ""),
    Mutant(
        "the shortest wait opens the gate", "start_gate", "max(self._waits().values())", "min(self._waits().values())"
    ),
    Mutant(
        "what was refused for good stays refused",
        "start_gate",
        "if splayed else now\n        self._refused = None",
        "if splayed else now",
    ),
    Mutant("nothing is refused for good", "start_gate", "return self._refused is not None and", "return False and"),
    Mutant(
        "a success does not end the backoff",
        "start_gate",
        'self.failures = 0\n        self._retry_at = float("-inf")\n\n    def failed',
        "pass\n\n    def failed",
    ),
]

SLOT: Final = [
    Mutant(
        "a call that returns late is swallowed",
        "operation",
        "call, outcome = self.call, self._outcomes.popleft()",
        "call, outcome = self.call, self._outcomes.popleft()\n        if self.stuck:\n            return None",
    ),
    Mutant("a call is never stuck", "operation", "if call is None or self.stuck or now < call.deadline", "if True"),
    Mutant("a call that is stuck is reported again and again", "operation", "self.stuck = True", "self.stuck = False"),
    Mutant("a call that has returned is still in flight", "operation", "self.call = None\n        if", "if"),
]

WATCH: Final = [
    Mutant(
        "the kill switch is not looked at",
        "watch",
        "killed = self._kill_switch is not None and self._exists(self._kill_switch)",
        "killed = False",
    ),
    Mutant(
        "a kill switch that has gone is not noticed",
        "watch",
        "changed = killed != self._seen.killed or",
        "changed = killed > self._seen.killed or",
    ),
    Mutant("only the first reading counts", "watch", "if reading is self._last and", "if self._last is not None and"),
    Mutant(
        "a source that calls sys.exit ends the control thread",
        "watch",
        "except BaseException as error:\n            self._lose(error, now)",
        "except Exception as error:\n            self._lose(error, now)",
    ),
    Mutant(
        "an exception without a reason ends the control thread",
        "watch",
        "with suppress(BaseException):",
        "with suppress(ValueError):",
    ),
]

LOOP: Final = [
    Mutant(
        "a call is made while another is in flight",
        "loop",
        "if self._slot.call is not None:\n            self._changed |=",
        "if self._slot.stuck:\n            self._changed |=",
    ),
    Mutant(
        "off is not followed",
        "next_step",
        'if not desired.on:\n        return Act("stop"',
        'if False:\n        return Act("stop"',
    ),
    Mutant(
        "off waits for the cooldown",
        "next_step",
        'Act("stop", Trigger.STOPPED, _AT_ONCE)',
        'Act("stop", Trigger.STOPPED, gate.opens_at())',
    ),
    Mutant(
        "a retune does not wait for the cooldown",
        "next_step",
        'Act("stop", Trigger.RETUNE, gate.opens_at(), gate.waits_for())',
        'Act("stop", Trigger.RETUNE, _AT_ONCE)',
    ),
    Mutant(
        "new settings are not followed",
        "next_step",
        "if not same_settings(desired.settings, session.settings):",
        "if False:",
    ),
    Mutant(
        "new settings are taken for applied, without a restart",
        "loop",
        '        elif act.kind == "stop":\n            self._stop(act',
        "        elif act.trigger is Trigger.RETUNE:\n"
        "            self._session = self._session._replace(settings=self._desired.settings)\n"
        '        elif act.kind == "stop":\n            self._stop(act',
    ),
    Mutant(
        "a start passes a gate that is closed",
        "next_step",
        'Act("start", Trigger.STARTED, gate.opens_at(), gate.waits_for())',
        'Act("start", Trigger.STARTED, _AT_ONCE)',
    ),
    Mutant(
        "what was refused for good is tried again",
        "next_step",
        "if not desired.on or gate.refuses(desired):",
        "if not desired.on:",
    ),
    Mutant("a permanent error is taken for a temporary one", "loop", "self._gate.refused(call.settings)", "pass"),
    Mutant(
        "a stop that failed is taken for done",
        "loop",
        "self._stop_failed(outcome.error, now)\n            return",
        "self._stop_failed(outcome.error, now)",
    ),
    Mutant(
        "a start that failed is taken for done",
        "loop",
        "self._start_failed(call, outcome.error, outcome.took, now)\n            return",
        "self._start_failed(call, outcome.error, outcome.took, now)",
    ),
    Mutant(
        "a stop that failed is never tried again",
        "next_step",
        "_AT_ONCE if is_urgent else session.stop_retry_at",
        "math.inf",
    ),
    Mutant(
        "a stop that failed is tried again at once",
        "next_step",
        "_AT_ONCE if is_urgent else session.stop_retry_at",
        "_AT_ONCE",
    ),
    Mutant("off waits for the backoff of a stop", "next_step", "session.stops_at_once or (closing", "(closing"),
    Mutant(
        "off jumps the backoff of every stop",
        "loop",
        "stop_trigger=trigger, stops_at_once=False",
        "stop_trigger=trigger",
    ),
    Mutant("the backoff of stops does not grow", "loop", "failures = self._session.stop_failures + 1", "failures = 1"),
    Mutant(
        "what follows a call is decided before the flags are looked at",
        "loop",
        "self._look(self._clock())\n        self._take_outcomes()",
        "self._take_outcomes()\n        self._look(self._clock())",
    ),
    Mutant(
        "a restart goes on though off is wanted",
        "loop",
        "elif desired.on and not self._gate.refuses(desired):",
        "elif not self._gate.refuses(desired):",
    ),
    Mutant(
        "a restart whose start failed stays restarting",
        "loop",
        "if self._history.state is State.RESTARTING:\n            self._fire(Trigger.FAILED",
        "if False:\n            self._fire(Trigger.FAILED",
    ),
    Mutant(
        "a start that failed has no backoff",
        "loop",
        "self._gate.failed(now)\n        self._survey.ended()",
        "self._survey.ended()",
    ),
    Mutant(
        "a start that worked does not end the backoff",
        "loop",
        "if not isinstance(self._backend, Probing):\n            self._gate.succeeded()",
        "if False:\n            self._gate.succeeded()",
    ),
    Mutant(
        "a start ends the backoff before a probe has shown that it samples",
        "loop",
        "if not isinstance(self._backend, Probing):\n            self._gate.succeeded()",
        "if True:\n            self._gate.succeeded()",
    ),
    Mutant(
        "what is wanted is taken for what was started",
        "loop",
        "Session(call.settings, probe_at)",
        "Session(self._desired.settings, probe_at)",
    ),
    Mutant(
        "settings are said to run though it is stopped",
        "loop",
        "self._session = Session()\n        self._survey.ended()",
        "self._session = Session(self._session.settings)\n        self._survey.ended()",
    ),
    Mutant(
        "a session is never probed",
        "loop",
        "now + _FIRST_PROBE if isinstance(self._backend, Probing) else math.inf",
        "math.inf",
    ),
    Mutant(
        "a session is probed once only",
        "loop",
        "_replace(probe_at=now + self._policy.resync)",
        "_replace(probe_at=math.inf)",
    ),
    Mutant("a session that does not sample is left as it is", "loop", 'if health.status != "failed":', "if True:"),
    Mutant(
        "a session that died has no backoff",
        "loop",
        'self._gate.failed(now)\n        self._cause = Cause("backend"',
        'self._cause = Cause("backend"',
    ),
    Mutant(
        "a session that died is not stopped before the next starts",
        "loop",
        "self._stop(Trigger.DIED, self._cause, now)",
        "self._fire(Trigger.DIED, self._cause, None)",
    ),
    Mutant("the end of the process stops nothing", "loop", "return OFF if self._closing else", "return"),
    Mutant(
        "the child of a fork tells nothing of it",
        "loop",
        "if inherited is not State.STOPPED:",
        "if inherited is None:",
    ),
    Mutant(
        "the end of the lease is not noticed",
        "loop",
        "if seen is self._seen and now < self._verdict.until and not self._has_moved:",
        "if seen is self._seen:",
    ),
    Mutant("the end of the lease is slept over", "loop", "        yield self._verdict.until\n", ""),
    Mutant(
        "the opening of the gate is slept over",
        "loop",
        "yield self._next.at",
        'yield self._next.at if self._next.kind == "probe" or self._session.stop_failures else math.inf',
    ),
    Mutant(
        "the time of the next stop is slept over",
        "loop",
        "yield self._next.at",
        "yield math.inf if self._session.stop_failures else self._next.at",
    ),
    Mutant("the deadline of a call is slept over", "loop", "yield self._slot.call.deadline", "yield math.inf"),
    Mutant(
        "no look is taken unless somebody calls",
        "loop",
        "min(now + self._policy.resync, *self._appointments(now))",
        "min(self._appointments(now))",
    ),
    Mutant(
        "a transition is made twice",
        "loop",
        "self._fire(Trigger.STARTED, call.cause, outcome.took)",
        "self._fire(Trigger.STARTED, call.cause, outcome.took)\n"
        "        self._fire(Trigger.STARTED, call.cause, outcome.took)",
    ),
    Mutant(
        "a retune is told of only when it is over",
        "loop",
        "if trigger is Trigger.RETUNE and self._history.state is State.RUNNING:",
        "if False:",
    ),
    Mutant(
        "the gate does not hear what is wanted",
        "loop",
        "self._gate.wanted(now, splayed=self._cause.kind not in SPREAD)",
        "pass",
    ),
    Mutant(
        "new settings are no reason to try what was refused for good",
        "loop",
        "if desired.on == was.on and same_settings(desired.settings, was.settings):",
        "if desired.on == was.on:",
    ),
    Mutant("the gate does not hear of a start", "loop", "self._gate.tried(now)", "pass"),
    Mutant(
        "a start has the deadline of a stop",
        "loop",
        "now + self._policy.start_deadline, Trigger.STARTED",
        "now + self._policy.stop_deadline, Trigger.STARTED",
    ),
    Mutant("the status is what it was long ago", "loop", "if self._changed:\n            self._publish()", "pass"),
]

MUTANTS: Final = [
    *MACHINE,
    *HISTORY,
    *DESIRED,
    *VALUES,
    *RULES,
    *LEASE,
    *POLICY,
    *SLOT,
    *WATCH,
    *LOOP,
]

SURVIVORS: Final[dict[str, str]] = {
    "choices are compared without their types": (
        "a value has the setting's type before it is compared, and so have its choices; only a setting of any type, as "
        "noop has them, could differ: tests/unit/test_rules.py::test_choices_are_compared_with_their_type"
    ),
    "a number that was moved need be none of the choices": (
        "it takes bounds of one owner and choices of another that do not meet, which a search seldom finds: "
        "tests/unit/test_rules.py::test_a_number_that_was_moved_is_still_one_of_the_choices"
    ),
}
"""Mutants that the property tests need not kill: why, and what does."""
