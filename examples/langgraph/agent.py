"""A graph as LangGraph's users write them; nothing here knows of A2A."""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt


def look(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Say what there is."""
    return {"messages": [AIMessage(f"I found {state['messages'][0].text} at nine.")]}


def book(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Do it, if somebody says yes."""
    answer = interrupt(f"Shall I book {state['messages'][0].text}?")
    return {"messages": [AIMessage("Booked." if answer == "yes" else "Then not.")]}


builder = StateGraph(MessagesState)
builder.add_node("look", look)
builder.add_node("book", book)
builder.add_edge(START, "look")
builder.add_edge("look", "book")
builder.add_edge("book", END)
graph = builder.compile(name="travel")
