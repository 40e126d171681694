"""An application that calls ``sentry_sdk.init`` when it is imported, with the DSN of its environment."""

import warnings
from typing import Any

# The SDK looks at eventlet, if that is there, which has a deprecation to tell.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentry_sdk
    from sentry_sdk.profiler import continuous_profiler


def call_init(**options: Any) -> None:
    """Without integrations: they would change the process for good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sentry_sdk.init(**{"default_integrations": False, "profile_session_sample_rate": 1.0, **options})


def forget() -> None:
    """As if it had never called it."""
    continuous_profiler.teardown_continuous_profiler()
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


call_init()
