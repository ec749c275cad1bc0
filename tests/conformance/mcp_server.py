"""A server for MCP's own conformance suite: ``python -m tests.conformance.mcp_server``.

The suite calls tools, prompts and resources of its own by name; a server that offers a mesh has
none of them. Here they stand beside the mesh's, in the same server behind the same HTTP, so that
what the suite checks by them (content, progress, sampling, elicitation, streams) is of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import struct
import tempfile
import warnings
import wave
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPDeprecationWarning

from agents.faces.http.settings import Settings
from agents.faces.mcp.server import Context, MeshServer
from agents.faces.mcp.serving import over_http
from agents.library import Agent
from tests.e2e.serving import serving

warnings.simplefilter("ignore", MCPDeprecationWarning)
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
PAUSE_S = 0.05
SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def png() -> str:
    """One red point."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    points = zlib.compress(b"\x00\xff\x00\x00")
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", points)
    return base64.b64encode(whole + chunk(b"IEND", b"")).decode()


def wav() -> str:
    """A moment of silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 8)
    return base64.b64encode(out.getvalue()).decode()


def text(words: str) -> types.TextContent:
    return types.TextContent(text=words)


def image() -> types.ImageContent:
    return types.ImageContent(data=png(), mime_type="image/png")


def embedded(uri: str, kind: str, words: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        resource=types.TextResourceContents(uri=uri, mime_type=kind, text=words)
    )


async def simple(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return [text("This is a simple text response for testing.")]


async def pictures(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return [image()]


async def sounds(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return [types.AudioContent(data=wav(), mime_type="audio/wav")]


async def resource(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return [
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ]


async def mixed(ctx: Context, given: dict[str, Any]) -> list[Any]:
    data = '{"test":"data","value":123}'
    return [
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", data),
    ]


async def logs(ctx: Context, given: dict[str, Any]) -> list[Any]:
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)
        await asyncio.sleep(PAUSE_S)
    return [text("told")]


async def progress(ctx: Context, given: dict[str, Any]) -> list[Any]:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await asyncio.sleep(PAUSE_S)
    return [text("done")]


async def fails(ctx: Context, given: dict[str, Any]) -> list[Any]:
    raise ValueError("This tool intentionally returns an error for testing")


async def reconnects(ctx: Context, given: dict[str, Any]) -> list[Any]:
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(PAUSE_S)
    return [text("Reconnection test completed successfully")]


async def samples(ctx: Context, given: dict[str, Any]) -> list[Any]:
    message = types.SamplingMessage(role="user", content=text(given["prompt"]))
    answer = await ctx.session.create_message(
        [message], max_tokens=100, related_request_id=ctx.request_id
    )
    return [text(f"LLM response: {answer.content}")]


def elicits(properties: dict[str, Any], words: str = "") -> Any:
    """A tool that asks the user."""

    async def run(ctx: Context, given: dict[str, Any]) -> list[Any]:
        schema = {"type": "object", "properties": properties, "required": []}
        answer = await ctx.session.elicit_form(
            given.get("message", words), schema, related_request_id=ctx.request_id
        )
        said = json.dumps(answer.content)
        return [text(f"User response: action={answer.action}, content={said}")]

    return run


DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {
        "type": "string",
        "enum": ["active", "inactive", "pending"],
        "default": "active",
    },
    "verified": {"type": "boolean", "default": True},
}
NUMBERED = ["option1", "option2", "option3"]
TITLED = [
    {"const": f"value{number}", "title": f"{name} Option"}
    for number, name in enumerate(("First", "Second", "Third"), 1)
]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": NUMBERED},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": NUMBERED}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}
PERSON = {"username": {"type": "string"}, "email": {"type": "string"}}


def wants(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


Run = Callable[[Context, dict[str, Any]], Awaitable[list[Any]]]
FIXTURES: dict[str, tuple[dict[str, Any], Run]] = {
    "test_simple_text": (NO_ARGUMENTS, simple),
    "test_image_content": (NO_ARGUMENTS, pictures),
    "test_audio_content": (NO_ARGUMENTS, sounds),
    "test_embedded_resource": (NO_ARGUMENTS, resource),
    "test_multiple_content_types": (NO_ARGUMENTS, mixed),
    "test_tool_with_logging": (NO_ARGUMENTS, logs),
    "test_tool_with_progress": (NO_ARGUMENTS, progress),
    "test_error_handling": (NO_ARGUMENTS, fails),
    "test_reconnection": (NO_ARGUMENTS, reconnects),
    "test_sampling": (wants("prompt"), samples),
    "test_elicitation": (wants("message"), elicits(PERSON)),
    "test_elicitation_sep1034_defaults": (NO_ARGUMENTS, elicits(DEFAULTS, "defaults")),
    "test_elicitation_sep1330_enums": (NO_ARGUMENTS, elicits(ENUMS, "enums")),
    "json_schema_2020_12_tool": (SCHEMA_2020_12, simple),
}
PROMPTS = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
}
RESOURCES = {"test://static-text": "text/plain", "test://static-binary": "image/png"}


class Fixtures(MeshServer):
    """The mesh's server with what the suite asks for by name."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        add = self.server.add_request_handler
        add("prompts/list", types.PaginatedRequestParams, self._list_prompts)
        add("prompts/get", types.GetPromptRequestParams, self._get_prompt)
        add("logging/setLevel", types.SetLevelRequestParams, self._set_level)

    async def _list_tools(self, ctx: Context, params: Any) -> types.ListToolsResult:
        own = await super()._list_tools(ctx, params)
        tools = [
            types.Tool(name=name, description=name, input_schema=schema)
            for name, (schema, _) in FIXTURES.items()
        ]
        return types.ListToolsResult(tools=[*own.tools, *tools])

    async def _call_tool(self, ctx: Context, params: Any) -> types.CallToolResult:
        if params.name not in FIXTURES:
            return await super()._call_tool(ctx, params)
        try:
            content = await FIXTURES[params.name][1](ctx, params.arguments or {})
        except ValueError as error:
            return types.CallToolResult(content=[text(str(error))], is_error=True)
        return types.CallToolResult(content=content)

    async def _list_resources(self, ctx: Context, params: Any) -> types.ListResourcesResult:
        own = await super()._list_resources(ctx, params)
        more = [types.Resource(uri=u, name=u, mime_type=kind) for u, kind in RESOURCES.items()]
        return types.ListResourcesResult(resources=[*own.resources, *more])

    async def _read_resource(self, ctx: Context, params: Any) -> types.ReadResourceResult:
        uri = str(params.uri)
        content: Any
        if uri == "test://static-text":
            words = "This is the content of the static text resource."
            content = types.TextResourceContents(uri=uri, mime_type="text/plain", text=words)
        elif uri == "test://static-binary":
            content = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=png())
        elif uri.startswith("test://template/"):
            number = uri.split("/")[3]
            words = json.dumps({"id": number, "data": f"Data for ID: {number}"})
            content = types.TextResourceContents(uri=uri, mime_type="application/json", text=words)
        else:
            return await super()._read_resource(ctx, params)
        return types.ReadResourceResult(contents=[content])

    async def _list_prompts(self, ctx: Context, params: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=name,
                    description=name,
                    arguments=[types.PromptArgument(name=one, required=True) for one in arguments],
                )
                for name, arguments in PROMPTS.items()
            ]
        )

    async def _get_prompt(
        self, ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        given = params.arguments or {}
        match params.name:
            case "test_simple_prompt":
                parts: list[Any] = [text("This is a simple prompt for testing.")]
            case "test_prompt_with_arguments":
                parts = [
                    text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")
                ]
            case "test_prompt_with_embedded_resource":
                words = "Embedded resource content for testing."
                parts = [
                    embedded(given["resourceUri"], "text/plain", words),
                    text("Please process the embedded resource above."),
                ]
            case _:
                parts = [image(), text("Please analyze the image above.")]
        messages = [types.PromptMessage(role="user", content=part) for part in parts]
        return types.GetPromptResult(messages=messages)

    async def _set_level(
        self, ctx: Context, params: types.SetLevelRequestParams
    ) -> types.EmptyResult:
        return types.EmptyResult()


async def serve(state: Path, port: int) -> None:
    """Serve until Ctrl-C."""
    async with Agent(state) as agent:
        await over_http(Fixtures(agent), Settings(state=str(state), port=port))


def main() -> None:
    """Start a real agent and the server in front of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as served:
        asyncio.run(serve(served.state, asked.port))


if __name__ == "__main__":
    main()
