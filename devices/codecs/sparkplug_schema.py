"""The wire schema of Sparkplug B payloads, as far as Headworks reads them: field numbers by the public specification.

A table instead of generated code: there is no compiler to install, and no generated file to keep in step with the
runtime. What cannot be a reading (data sets, templates) is declared as octets, so that nothing parses what is inside.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "headworks.sparkplug"

# name: (number, type, whether repeated); a type that begins with a capital is a message.
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "PropertyValue": {
        "type": (1, "uint32", False),
        "is_null": (2, "bool", False),
        "int_value": (3, "uint32", False),
        "long_value": (4, "uint64", False),
        "string_value": (8, "bytes", False),
    },
    "PropertySet": {"keys": (1, "bytes", True), "values": (2, "PropertyValue", True)},
    "Metric": {
        "name": (1, "bytes", False),
        "alias": (2, "uint64", False),
        "timestamp": (3, "uint64", False),
        "datatype": (4, "uint32", False),
        "is_historical": (5, "bool", False),
        "is_transient": (6, "bool", False),
        "is_null": (7, "bool", False),
        "properties": (9, "PropertySet", False),
        "int_value": (10, "uint32", False),
        "long_value": (11, "uint64", False),
        "float_value": (12, "float", False),
        "double_value": (13, "double", False),
        "boolean_value": (14, "bool", False),
        "string_value": (15, "bytes", False),
        "bytes_value": (16, "bytes", False),
        "dataset_value": (17, "bytes", False),
        "template_value": (18, "bytes", False),
    },
    "Payload": {
        "timestamp": (1, "uint64", False),
        "metrics": (2, "Metric", True),
        "seq": (3, "uint64", False),
        "uuid": (4, "bytes", False),
        "body": (5, "bytes", False),
    },
}
# Texts are octets here: what is not UTF-8 gets an error of ours at its own metric, on every version of the runtime.

_VALUES = (
    "int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value", "bytes_value",
    "dataset_value", "template_value",
)  # fmt: skip


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="headworks/sparkplug.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        if message == "Metric":
            described.oneof_decl.add(name="value")
        for name, (number, kind, repeated) in fields.items():
            field = described.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind[0].isupper():
                field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
            if message == "Metric" and name in _VALUES:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


Payload = _payload_class()
"""The message class: `Payload.FromString(bytes)`, `.SerializeToString()`; the fields are those of the table above."""
