"""Reading profiles in the format of pprof, with the `protobuf` package."""

import functools
import re
from collections.abc import Mapping
from typing import Any, Final

# message: "field=number:type", with * for repeated; after pprof's profile.proto, without what only native code has.
# protobuf skips other fields.
PPROF: Final[Mapping[str, str]] = {
    "Profile": "sample_type=1:*ValueType sample=2:*Sample location=4:*Location function=5:*Function"
    " string_table=6:*string time_nanos=9:int64 duration_nanos=10:int64 period_type=11:ValueType period=12:int64",
    "ValueType": "type=1:int64 unit=2:int64",
    "Sample": "location_id=1:*uint64 value=2:*int64 label=3:*Label",
    "Label": "key=1:int64 str=2:int64 num=3:int64",
    "Location": "id=1:uint64 line=4:*Line",
    "Line": "function_id=1:uint64 line=2:int64",
    "Function": "id=1:uint64 name=2:int64 filename=4:int64",
}


def parse_pprof(data: bytes) -> Any:
    """The `Profile` of an uncompressed profile, with the fields of pprof's profile.proto.

    Raises google.protobuf's DecodeError, and ImportError without the package.
    """
    return Messages.of_pprof().parse("Profile", data)


class Messages:
    """Classes for messages that are described by the names, numbers and types of their fields.

    They live in a pool of their own: in the default one, which is the host's, their names may collide.
    """

    def __init__(self, described: Mapping[str, str]) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

        field_type = descriptor_pb2.FieldDescriptorProto
        file = descriptor_pb2.FileDescriptorProto(name="rheostat.proto", syntax="proto3")
        for message, fields in described.items():
            descriptor = file.message_type.add(name=message)
            for name, number, star, kind in re.findall(r"(\w+)=(\d+):(\*?)(\w+)", fields):
                field = descriptor.field.add(name=name, number=int(number))
                field.label = field_type.LABEL_REPEATED if star else field_type.LABEL_OPTIONAL
                if kind in described:
                    field.type_name = kind
                else:
                    field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._classes = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in described}

    @classmethod
    @functools.cache
    def of_pprof(cls) -> "Messages":
        return cls(PPROF)

    def parse(self, message: str, data: bytes) -> Any:
        """Raises google.protobuf's DecodeError."""
        return self._classes[message].FromString(data)
