"""What a vLLM server may answer to its client."""

from __future__ import annotations

import httpx
import pytest

from agentlab.engines.vllm.client import Client
from agentlab.errors import ServerFailed


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("said", [b"[" * 100_000, b"\xff", b"", b"[]"])
def test_an_answer_that_is_no_object_is_a_failure_of_the_server(said: bytes, status: int) -> None:
    client = Client("http://127.0.0.1:9")
    answer = httpx.Response(status, content=said, headers={"content-type": "application/json"})
    client._http = httpx.Client(transport=httpx.MockTransport(lambda _: answer), base_url="http://127.0.0.1:9")
    with pytest.raises(ServerFailed):
        client.post("/v1/completions", {"prompt": [[1]]})
    client.close()
