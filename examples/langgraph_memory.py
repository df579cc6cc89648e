"""A LangGraph agent with long-term memory: told something in one thread, it knows it in another, and after a restart.

It needs `pip install langchain`. A script stands in for the chat model, so that it runs anywhere; put your own model in
its place.
"""

from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from memory import HashingEmbedder, SqliteFaissStore

NOTES = ("ann", "notes")


@tool
def remember(text: str, runtime: ToolRuntime) -> str:
    """Keep a fact about the user."""
    assert runtime.store is not None
    runtime.store.put(NOTES, uuid4().hex, {"text": text})
    return "noted"


@tool
def recall(question: str, runtime: ToolRuntime) -> str:
    """Find what is known that bears on a question."""
    assert runtime.store is not None
    return "; ".join(item.value["text"] for item in runtime.store.search(NOTES, query=question, limit=1))


class Script(BaseChatModel):
    """Recalls when it is asked, remembers when it is told, and knows nothing but what its tools say."""

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **options: Any) -> ChatResult:
        last = messages[-1]
        answer = AIMessage(last.text)
        if not isinstance(last, ToolMessage):
            name, argument = ("recall", "question") if last.text.endswith("?") else ("remember", "text")
            answer = AIMessage("", tool_calls=[{"name": name, "args": {argument: last.text}, "id": uuid4().hex}])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def chat(path: Path, *lines: str) -> None:
    """Open the file, say `lines` to an agent, each in a thread of its own, and close the file again."""
    with SqliteFaissStore.open(path, index={"embed": HashingEmbedder(), "fields": ["text"]}) as store:
        agent = create_agent(Script(), [remember, recall], store=store)
        for line in lines:
            answer = agent.invoke({"messages": [("user", line)]})["messages"][-1].text
            print(f"user   {line}\nagent  {answer}")


def main(folder: str = "labs/langgraph") -> None:
    path = Path(folder) / "lab.db"
    chat(path, "The spare key is under the third flower pot.", "The cat eats at seven.")
    chat(path, "Where is the spare key?", "When does the cat eat?")


if __name__ == "__main__":
    main()
