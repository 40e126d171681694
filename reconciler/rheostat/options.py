"""What a plug-in says when its options make no sense together."""

from collections.abc import Mapping


class InvalidOptions(ValueError):
    """Raised by an ``Options`` class from ``__post_init__``: per field, what was expected of it.

    The place and what was found are added by the decoder: ``InvalidOptions({"port": "1 to 65535"})``.
    """

    def __init__(self, expected: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: expected {what}" for name, what in expected.items()))
        self.expected = expected
