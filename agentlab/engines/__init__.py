"""Engines: where log-probabilities and sentences come from.

`base` says what an engine is. `transformers` is the local one: its `adapted` models read `cached` conversations, which
have `slots`, in `passes`, for `scoring`, `writing` turns and `answering`; `proof` tries that when one is loaded,
`dropout` asks what it does not know, and `experimental` steers it, both by what its `layers` hand on. `vllm` serves
such models to many; both are a `token_engine`. `chat` asks a model behind an API (through a `provider`), `scripted`
needs no weights. `batching` gathers requests. `hub` finds models, `model_folder` checks their files. `spans` are what
tracing says of a call.
"""
