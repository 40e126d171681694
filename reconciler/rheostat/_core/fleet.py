"""An instance's place in its fleet: the same each time, and of many instances spread evenly."""

from typing import Final

_BYTES: Final = 8


def place(instance: str, salt: str) -> float:
    """In [0, 1): the first 8 bytes of SHA-256 over the salt, a NUL and the instance, as a fraction of 2**64.

    >>> f"{place('host-1', ''):.6f} {place('host-1', 'shop'):.6f}"
    '0.718638 0.572117'
    """
    # Only a configuration that shares something out pays for the import.
    from hashlib import sha256

    digest = sha256(f"{salt}\0{instance}".encode("utf-8", "surrogateescape")).digest()
    # Of 64 bits a float keeps 53: rounded up, the greatest would be 1.
    return (int.from_bytes(digest[:_BYTES]) >> 11) / 2**53
