"""Parts of the reference that are made from the code: tables in Markdown, by the names that pages ask for them."""

from __future__ import annotations

import html
import importlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml
from prometheus_client.metrics_core import Metric
from typer.main import get_command

from streamer.activities import ACTIVITIES, GROUPS, groups_of
from streamer.bundle import Manifest, Smoothing, load_bundle, shipped_bundles
from streamer.chain import Chain
from streamer.config import Settings, expected
from streamer.likeness.profile import Profile
from streamer.metrics import Metrics
from streamer.preprocessing.spec import LowPass, PreprocessingSpec

#: Programs and where their command lines are.
PROGRAMS: Final = {"har-stream": "streamer.cli", "simulator": "simulator.cli", "har-models": "models.cli"}


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def text(value: str) -> str:
    """As text: nothing in it is a tag."""
    return html.escape(" ".join(value.split()), quote=False)


def code(value: object) -> str:
    """As code; nothing for nothing."""
    return f"`{value}`" if str(value) else ""


# --- settings -------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Every setting with its default, what it takes and what it means."""
    return table(
        ("setting", "default", "takes", "what for"),
        (
            (
                f'<a id="{field.name}"></a>{code(field.name)}',
                code(_default(field.default)),
                expected(field.type),
                text(str(field.type.__metadata__[-1].description).partition("[default")[0]),
            )
            for field in msgspec.structs.fields(Settings)
        ),
    )


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


# --- command lines --------------------------------------------------------------------------------------------------


def commands(program: str) -> dict[str, Any]:
    """A program's commands by how they are called, the program itself first."""
    root: Any = get_command(importlib.import_module(PROGRAMS[program]).app)
    return {program: root} | {
        f"{program} {name}": command for name, command in root.commands.items() if not command.hidden
    }


def options(command: Any) -> set[str]:
    """Names of a command's options, --help included."""
    return {"--help"} | {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def command_line(program: str) -> str:
    """Every command of a program with its arguments and options, as --help tells them."""
    parts = []
    settings_names = {f"--{name.replace('_', '-')}" for name in Settings.__struct_fields__}
    for path, command in commands(program).items():
        records = [
            parameter.get_help_record(command.make_context(path, [], resilient_parsing=True))
            for parameter in command.params
            if not parameter.hidden and not (path == "har-stream" and settings_names & set(parameter.opts))
        ]
        parts += [] if path == program else [f"## {path}"]
        parts.append(text(command.help))
        if path == "har-stream":
            parts.append("Each [setting](settings.md) is an option, and besides there are:")
        if records:
            parts.append(table(("", "default", "what for"), map(_parameter, records)))
    return "\n\n".join(parts)


def _parameter(record: tuple[str, str]) -> tuple[str, str, str]:
    """A row from a line of help: `--port <int range>`, `and port  [env var: PORT; default: 1883; 1<=x<=65535]`."""
    names, help_text = record
    brackets = re.search(r"(\s*\[[^\[\]]*\])*$", help_text)
    extra = "" if brackets is None else brackets[0]
    default, rest = "", []
    for part in re.split(r"; |\]\s*\[", extra.strip(" []")):
        kind, _, value = part.partition(": ")
        if kind == "default":
            default = code(value)
        elif kind == "required":
            default = "required"
        elif kind == "env var":
            rest.append(f"environment: {code(value)}")
        elif kind:
            rest.append(kind.replace("<=x<=", " to ").replace("x>=", "from "))
    more = f" ({', '.join(rest)})" if rest else ""
    return code(names), default, f"{text(help_text.removesuffix(extra)).rstrip('.')}{more}"


# --- metrics --------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """Every metric with its type, labels and meaning."""
    families = Metrics(activities=["ACTIVITY"], model="NAME", model_digest="DIGEST").registry.collect()
    own = [family for family in families if family.name.startswith("har_")]
    return table(
        ("metric", "type", "labels", "what it says"),
        (
            (code(_series(family)), family.type, _labels(family), text(family.documentation))
            for family in sorted(own, key=lambda family: family.name)
        ),
    )


def _series(family: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    return f"{family.name}{suffix}"


def _labels(family: Metric) -> str:
    found: dict[str, list[str]] = {}
    for sample in family.samples:
        for name, value in sample.labels.items():
            if name != "le" and value not in found.setdefault(name, []):
                found[name].append(value)
    found = {name: ["…"] if "ACTIVITY" in values or family.type == "info" else values for name, values in found.items()}
    return "; ".join(f"{code(name)}: {', '.join(values)}" for name, values in found.items())


# --- topics and payloads --------------------------------------------------------------------------------------------


def topics() -> str:
    """Every channel of docs/asyncapi.yaml."""
    document = _asyncapi()
    directions: dict[str, str] = {}
    for operation in document["operations"].values():
        arrow = {"receive": "in", "send": "out"}[operation["action"]]
        if operation.get("bindings", {}).get("mqtt", {}).get("retain"):
            arrow += ", retained"
        directions[operation["channel"]["$ref"].rpartition("/")[2]] = arrow
        if "reply" in operation:
            directions[operation["reply"]["channel"]["$ref"].rpartition("/")[2]] = "out"
    rows = (
        (
            code(re.sub(r"{(\w+)}", r"<\1>", channel["address"])),
            directions[name],
            f"**{channel['title']}.** {text(channel['description'])}",
        )
        for name, channel in document["channels"].items()
    )
    return table(("topic", "", "what"), rows)


def payloads() -> str:
    """Every message with its examples, but for those that hold no more than a word."""
    parts = []
    for message in _asyncapi()["components"]["messages"].values():
        schema = message["payload"]
        examples = [example for example in message["examples"] if isinstance(example["payload"], dict)]
        if "schema" in schema:
            parts += [f"### {message['title']}", f"Described in CDDL (RFC 8610):\n\n```cddl\n{schema['schema']}```"]
        elif examples:
            parts.append(f"### {message['title']}")
            for example in examples:
                caption = example.get("name")
                body = msgspec.json.format(msgspec.json.encode(example["payload"])).decode()
                # Rows of numbers stay rows.
                body = re.sub(r"\[\s+([^\[\]]+?)\s+\]", lambda row: f"[{' '.join(row[1].split())}]", body)
                parts.append((f"{caption[0].upper()}{caption[1:]}:\n\n" if caption else "") + f"```json\n{body}\n```")
    return "\n\n".join(parts)


def fields(schema: str) -> str:
    """The fields of a schema of docs/asyncapi.yaml."""
    found = _asyncapi()["components"]["schemas"][schema]
    required = found.get("required", ())
    header: tuple[str, ...] = ("field", "type", "meaning")
    rows: list[tuple[str, ...]] = [
        (code(name), _json_type(entry), text(entry.get("description", "")))
        for name, entry in found["properties"].items()
    ]
    if required:
        header = ("field", "always there", *header[1:])
        rows = [
            (row[0], "yes" if name in required else "", *row[1:])
            for name, row in zip(found["properties"], rows, strict=True)
        ]
    return f"{text(found['description'])}\n\n" + table(header, rows)


def _asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "asyncapi.yaml").read_text(encoding="utf-8"))
    return document


def _json_type(entry: dict[str, Any]) -> str:
    if "$ref" in entry:
        return {"Time": "integer, ns", "Column": "number or list"}[entry["$ref"].rpartition("/")[2]]
    if "oneOf" in entry:
        return "integer or list"
    if "enum" in entry:
        return ", ".join(map(code, entry["enum"]))
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    bounds = [f"{entry[name]}" for name in ("minimum", "maximum") if name in entry]
    return " or ".join(kinds) + (f", {' to '.join(bounds)}" if len(bounds) == 2 else "")


# --- bundles --------------------------------------------------------------------------------------------------------


def bundle_schema() -> str:
    """Every key of bundle.json."""
    parts = []
    for path, struct in (
        ("", Manifest),
        ("preprocessing", PreprocessingSpec),
        ("preprocessing.noise, .gravity and .gyro_drift", LowPass),
        ("smoothing", Smoothing),
        ("smoothing.chain", Chain),
        ("profile", Profile),
    ):
        hints = get_type_hints(struct, include_extras=True)
        meanings = _attributes(struct)
        rows = ((code(name), _python_type(hints[name]), meanings[name]) for name in struct.__struct_fields__)
        heading = f"### {path}\n\n" if path else ""
        parts.append(heading + table(("key", "type", "meaning"), rows))
    return "\n\n".join(parts)


def bundle_json_schema() -> bytes:
    """JSON Schema of bundle.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Manifest)}
    return msgspec.json.format(msgspec.json.encode(schema))


def shipped() -> str:
    """What each shipped bundle takes and how it decides."""
    rows = []
    for name, folder in shipped_bundles().items():
        bundle = load_bundle(folder)
        spec, smoothing = bundle.spec, bundle.manifest.smoothing
        rows.append(
            (
                f"[{name}]({name}.md)",
                bundle.manifest.training.get("summary", ""),
                spec.sensors_in_words,
                f"{bundle.manifest.min_feed_rate_hz:g} Hz",
                f"{spec.window_len / spec.rate_hz:g} s every {spec.hop_len / spec.rate_hz:g} s",
                str(smoothing.dwell),
            )
        )
    return table(("bundle", "what", "sensors", "feed at least", "window", "dwell"), rows)


def delays() -> str:
    """From what each shipped bundle's least delay is made."""
    rows = []
    for name, folder in shipped_bundles().items():
        manifest = load_bundle(folder).manifest
        window_s, hop_s = (
            samples / manifest.preprocessing.rate_hz
            for samples in (manifest.preprocessing.window_len, manifest.preprocessing.hop_len)
        )
        least_s = window_s + (manifest.smoothing.dwell - 1) * hop_s
        rows.append((name, f"{window_s:g} s", f"{hop_s:g} s", str(manifest.smoothing.dwell), f"{least_s:g} s"))
    return table(("bundle", "window", "hop", "dwell", "`decided_ns - onset_ns` at least"), rows)


def _attributes(struct: type) -> dict[str, str]:
    """Meanings by name, from the docstring's "Attributes:"."""
    section = (struct.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^ {8}([\w, ]+): ((?:.|\n {12})+)", section, re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), text(meaning))
    return found


def _python_type(annotation: Any) -> str:
    bounds = ""
    while hasattr(annotation, "__metadata__"):
        for meta in annotation.__metadata__:
            if meta.pattern is not None:
                bounds += f" like {code(meta.pattern)}"
            low = ("from", meta.ge) if meta.ge is not None else ("above", meta.gt)
            bounds += "".join(f" {word} {limit}" for word, limit in (low, ("to", meta.le)) if limit is not None)
        annotation = annotation.__origin__
    if get_origin(annotation) is Literal:
        return " or ".join(code(value) for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_python_type(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "map of text to text"
    members = [member for member in get_args(annotation) if member is not type(None)]
    if members:
        return f"{_python_type(members[0])} or null"
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        number = len(annotation.__struct_fields__)
        return f"list of {number} numbers" if annotation.__struct_config__.array_like else "object, see below"
    return {int: "integer", float: "number", str: "text"}[annotation] + bounds


# --- groups ---------------------------------------------------------------------------------------------------------


def tree() -> str:
    """Groups and what is in them, as nested lists."""

    def lines(group: str, indent: str) -> list[str]:
        alone = [member for member in GROUPS[group] if member not in GROUPS]
        within = [member for member in GROUPS[group] if member in GROUPS]
        head = f"{indent}* **{group}**: {', '.join(map(code, alone))}".removesuffix(": ")
        return [head, *(line for member in within for line in lines(member, f"{indent}    "))]

    inner = {member for members in GROUPS.values() for member in members}
    return "\n".join(line for group in GROUPS if group not in inner for line in lines(group, ""))


#: Of fewer mistakes a share says little.
_FEW: Final = 30


def mistakes() -> str:
    """How many of a shipped model's mistakes about held-out people lie within each group that it could tell."""
    rows: list[tuple[str, ...]] = []
    for name, folder in shipped_bundles().items():
        manifest = load_bundle(folder).manifest
        if "crossvalidation" not in manifest.training:
            continue
        pooled = msgspec.json.decode(manifest.training["crossvalidation"])["pooled"]
        for group, members in groups_of(tuple(pooled["labels"]), manifest.groups).items():
            own = [pooled["confusion"][member] for member in members]
            right = sum(row[member] for row, member in zip(own, members, strict=True))
            windows, inside = sum(map(sum, own)), sum(row[member] for row in own for member in members)
            if windows - right < _FEW:
                continue
            share = f"{(inside - right) / (windows - right):.0%}"
            recalls = (f"{right / windows:.3f}", f"{inside / windows:.3f}")
            rows.append((name, code(group), str(windows - right), share, *recalls))
    header = ("model", "group", "mistakes", "within the group", "recall of its activities", "recall of the group")
    return table(header, rows)


# --- lists ----------------------------------------------------------------------------------------------------------


def listed(names: Iterable[object]) -> str:
    """Names in a row."""
    return ", ".join(code(name) for name in names)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings,
    **{program: lambda program=program: command_line(program) for program in PROGRAMS},  # type: ignore[misc]
    "metrics": metrics,
    "topics": topics,
    "payloads": payloads,
    "fields of events": lambda: fields("ActivityEvent"),
    "fields of readings": lambda: fields("ReadingsJson"),
    "bundle.json": bundle_schema,
    "bundles": shipped,
    "delays": delays,
    "activities": lambda: listed(ACTIVITIES),
    "groups": tree,
    "mistakes within groups": mistakes,
}
