"""The public library: a running agent, reached from a program through its local door."""

from __future__ import annotations

from agents.library.events import (
    Asked,
    AskedEvent,
    Broken,
    Current,
    DataEvent,
    Delta,
    Embeddings,
    Generation,
    GenerationEvent,
    Missed,
    ModelView,
    Plan,
    Published,
    Receipt,
    Resolution,
    Retry,
    Step,
)
from agents.library.knowing import DocumentAnswer, KnowledgeAdded, KnownEntry
from agents.library.remote import Agent, connect
from agents.library.sync import SyncAgent, connect_sync
from agents.library.writing import OutlinePoint, WrittenAnswer
from agents.views import AnswerView, EndpointView, NameView, PeerView, StepView
from capabilities.data.messages import Embedding, Summary, View
from capabilities.messages import Generate, Message, Sample, Tool, ToolCall
from mesh.core.errors import GossamerError

__all__ = [
    "connect",
    "Agent",
    "connect_sync",
    "SyncAgent",
    "GossamerError",
    # what is asked
    "Generate",
    "Message",
    "Tool",
    "ToolCall",
    # what comes back
    "AnswerView",
    "EndpointView",
    "DocumentAnswer",
    "Embeddings",
    "KnowledgeAdded",
    "KnownEntry",
    "OutlinePoint",
    "WrittenAnswer",
    "Generation",
    "ModelView",
    "NameView",
    "PeerView",
    "Resolution",
    "Receipt",
    "Sample",
    "Summary",
    "Embedding",
    "View",
    "StepView",
    # while it runs
    "Asked",
    "AskedEvent",
    "Delta",
    "GenerationEvent",
    "Plan",
    "Retry",
    "Step",
    # of data
    "Broken",
    "Current",
    "DataEvent",
    "Missed",
    "Published",
]
